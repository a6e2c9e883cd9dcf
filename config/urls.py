"""URLs of the back office."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, path

from billing import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("documents/<uuid:public_id>/", views.download, name="document_download"),
    path("documents/<uuid:public_id>/preview/", views.preview, name="document_preview"),
    path(settings.ADMIN_PATH, admin.site.urls),
]

handler403 = "config.site.forbidden"
handler404 = "config.site.not_found"
