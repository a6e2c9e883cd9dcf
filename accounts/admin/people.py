"""Pages of people, roles and who has which: plain words, and nobody gives more than they have."""

from typing import Any, ClassVar, Final, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models, transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts import access, roles
from accounts.admin.scoped import ScopedAdmin, is_superuser
from accounts.models import LoginEvent, Role, RoleAssignment, User, in_force
from billing import audit
from billing.errors import NotPermitted

LOGINS_SHOWN: Final = 10
CUSTOMERS_SHOWN: Final = 50

LABELS: Final = {"username": "user name", "email": "e-mail address", "is_active": "active"}
HELP: Final = {
    "username": "What the person enters to log in; the e-mail address works as well.",
    "is_active": "Somebody inactive cannot log in and may do nothing, whatever their roles.",
}

# Groups stand for roles and are written by accounts.roles; they have no page.
if admin.site.is_registered(Group):
    admin.site.unregister(Group)


class HousePage(ScopedAdmin):
    """Looks shared by the pages here."""

    list_per_page = 50
    list_max_show_all = 0
    list_lead = ""
    empty_text = ""
    formfield_overrides: ClassVar[Any] = {
        models.DateTimeField: {
            "form_class": forms.DateTimeField,
            "widget": forms.DateTimeInput(
                attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"
            ),
        }
    }

    @property
    def media(self) -> forms.Media:
        """Widgets bring their own scripts; a page needs no others."""
        return forms.Media()

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, with a word on what it is."""
        words = {"list_lead": self.list_lead, "empty_text": self.empty_text}
        return super().changelist_view(request, words | (extra_context or {}))

    def record(self, request: HttpRequest, action: str, row: Any, **facts: Any) -> None:
        """Write one event of the audit trail."""
        audit.record(
            action,
            subject=f"{self.opts.model_name}:{row.pk}",
            actor_id=request.user.pk,
            request_id=getattr(request, "request_id", ""),
            **facts,
        )


class PersonForm(UserChangeForm):
    """A person's details."""

    class Meta(UserChangeForm.Meta):
        model = User
        labels: ClassVar[Any] = LABELS
        help_texts: ClassVar[Any] = HELP


class NewPersonForm(AdminUserCreationForm):
    """A new person, with a first password that they change after logging in."""

    usable_password = None  # type: ignore[assignment]

    class Meta(AdminUserCreationForm.Meta):
        model = User
        fields = ("username", "name", "email")
        labels: ClassVar[Any] = LABELS
        help_texts: ClassVar[Any] = HELP


@admin.register(User)
class PersonAdmin(HousePage, UserAdmin):
    """People. What somebody may do follows from roles only."""

    view_permission = "view_people"
    change_permission = "manage_roles"
    form = PersonForm
    add_form = NewPersonForm
    list_lead = "Everybody who may log in. Somebody who leaves is made inactive, never deleted."
    list_display = ("shown_name", "username", "email", "shown_roles", "is_active", "last_login")
    list_filter = ("is_active",)
    search_fields = ("name", "username", "email")
    ordering = ("name", "username")
    filter_horizontal = ()
    actions = None
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("name", "username", "email", "is_active")}),
        ("How pages look", {"fields": ("language", "time_zone", "theme")}),
        ("What this person may do", {"fields": ("may_do",)}),
        ("Logins", {"fields": ("last_login", "date_joined", "latest_logins")}),
    )
    add_fieldsets: Any = (
        (None, {"fields": ("name", "username", "email", "password1", "password2")}),
    )
    readonly_fields = ("may_do", "latest_logins", "last_login", "date_joined")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """People with their roles."""
        return super().get_queryset(request).prefetch_related("assignments__role")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A superuser is changed by superusers only."""
        if obj is not None and obj.is_superuser and not is_superuser(request):
            return False
        return super().has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Nobody locks themselves out, or takes over the way in of somebody who uses it."""
        fixed: tuple[str, ...] = tuple(self.readonly_fields)
        if obj is not None and obj.pk == request.user.pk:
            fixed += ("is_active",)
        if obj is not None and not self._may_set_password(request, obj):
            fixed += ("username", "email")
        return fixed

    def user_change_password(
        self, request: HttpRequest, id: str, form_url: str = ""
    ) -> HttpResponse:
        """Set a password: of somebody who never logged in yet, or by a superuser."""
        person = self.get_object(request, id)
        if not self._may_set_password(request, person):
            raise PermissionDenied
        return super().user_change_password(request, id, form_url)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Save, and say so in the audit trail."""
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            after = {name: str(form.cleaned_data.get(name)) for name in form.changed_data}
            shown = {name: value for name, value in after.items() if "password" not in name}
            self.record(request, "person.changed" if change else "person.added", obj, after=shown)

    def _may_set_password(self, request: HttpRequest, person: User) -> bool:
        # Whoever could set a colleague's password could approve in their name.
        return is_superuser(request) or (
            person.last_login is None and self.has_change_permission(request, person)
        )

    @admin.display(description="name", ordering="name")
    def shown_name(self, person: User) -> str:
        """The name as it is shown everywhere."""
        return str(person)

    @admin.display(description="roles")
    def shown_roles(self, person: User) -> str:
        """Names of the roles in force."""
        if person.is_superuser:
            return "Superuser"
        now = timezone.now()
        rows = person.assignments.all()
        held = {
            row.role.name
            for row in rows
            if row.valid_from <= now and (row.valid_until is None or row.valid_until > now)
        }
        return ", ".join(sorted(held)) or "none"

    @admin.display(description="roles and what they allow")
    def may_do(self, person: User) -> SafeString | str:
        """Each role in force, where it holds, until when, and its sentences."""
        if person.is_superuser:
            return "Everything: a superuser."
        if not person.is_active:
            return "Nothing: inactive."
        rows = person.assignments.filter(in_force()).select_related("role", "customer")
        told = [
            format_html(
                "<p><strong>{}</strong>, {}{}<br>{}</p>",
                row.role.name,
                where_of(row),
                f", until {timezone.localtime(row.valid_until):%-d %B %Y}"
                if row.valid_until
                else "",
                "; ".join(_sentences_of(row)),
            )
            for row in rows[: CUSTOMERS_SHOWN + 1]
        ]
        if not told:
            return "Nothing: no role is in force."
        more = "" if len(told) <= CUSTOMERS_SHOWN else "…"
        return format_html_join("", "{}", ((part,) for part in (*told[:CUSTOMERS_SHOWN], more)))

    @admin.display(description="latest logins")
    def latest_logins(self, person: User) -> SafeString | str:
        """When, from where, and what came of it."""
        rows = person.logins.all()[:LOGINS_SHOWN]
        told = format_html_join(
            "",
            "{}, {}: {}<br>",
            (
                (
                    f"{timezone.localtime(r.at):%-d %B %Y, %H:%M}",
                    r.address or "-",
                    r.get_kind_display(),
                )
                for r in rows
            ),
        )
        return told or "none yet"


class RoleForm(forms.ModelForm):
    """A role and its sentences."""

    permissions = forms.MultipleChoiceField(
        label="Allows",
        choices=list(roles.SENTENCES.items()),
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = Role
        fields = ("name", "code", "summary", "is_house_wide", "permissions")


@admin.register(Role)
class RoleAdmin(HousePage):
    """Roles, told in sentences. Built-in ones stay as they are."""

    view_permission = "view_people"
    change_permission = "manage_roles"
    form = RoleForm
    list_lead = "A role is a set of sentences. It is given to people for a customer or the house."
    list_display = ("name", "summary", "is_house_wide", "is_built_in")
    list_filter = ("is_house_wide", "is_built_in")
    search_fields = ("name", "summary")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Built-in roles come with the release."""
        if obj is not None and obj.is_built_in:
            return False
        return super().has_change_permission(request, obj)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """The sentences: boxes to tick, or text."""
        if self.has_change_permission(request, obj):
            return ("name", "code", "summary", "is_house_wide", "permissions")
        return ("name", "summary", "is_house_wide", "allows")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """The code is the role's name for good."""
        return ("allows", "code") if obj is not None else ("allows",)

    @admin.display(description="allows")
    def allows(self, role: Role) -> SafeString:
        """The role's sentences."""
        told = ((sentence,) for sentence in roles.sentences(role.permissions))
        return format_html_join("", "{}<br>", told)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """A form that refuses what its author may not give."""
        base = super().get_form(request, obj, change, **kwargs)
        actor = cast("User", request.user)

        class Asked(base):  # type: ignore[misc,valid-type]
            def clean(self) -> dict[str, Any]:
                data = cast("dict[str, Any]", super().clean())
                held = set(data.get("permissions", ())) - set(self.instance.permissions or ())
                try:
                    roles.require_held(actor, held)
                except NotPermitted as refusal:
                    raise ValidationError(str(refusal)) from refusal
                return data

        return Asked

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Define the role and write to the audit trail what it was and is."""
        before = [] if not change else list(Role.objects.get(pk=obj.pk).permissions)
        try:
            with transaction.atomic():
                roles.define_role(
                    obj,
                    permissions=form.cleaned_data["permissions"],
                    actor=cast("User", request.user),
                    at=timezone.now(),
                )
                after = {"permissions": obj.permissions}
                self.record(
                    request, "role.defined", obj, before={"permissions": before}, after=after
                )
        except NotPermitted as refusal:
            raise PermissionDenied(str(refusal)) from refusal


class AssignmentForm(forms.ModelForm):
    """Who, which role, where, from when, until when and why."""

    actor: ClassVar[User]

    class Meta:
        model = RoleAssignment
        fields = ("user", "role", "customer", "valid_from", "valid_until", "reason")

    def clean(self) -> dict[str, Any]:
        """Refuse what the author may not give, in words."""
        data = cast("dict[str, Any]", super().clean())
        person, role, customer = data.get("user"), data.get("role"), data.get("customer")
        if person is not None and role is not None:
            try:
                roles.require_may_assign(
                    actor=self.actor,
                    user=person,
                    role=role,
                    customer_id=None if customer is None else customer.pk,
                )
            except NotPermitted as refusal:
                raise ValidationError(str(refusal)) from refusal
        return data


@admin.register(RoleAssignment)
class RoleAssignmentAdmin(HousePage):
    """Who has which role where. Rows are given and ended, never edited: they are history."""

    owner = "customer"
    view_permission = "manage_people"
    house_permission = "view_people"
    add_permission = "manage_roles"
    form = AssignmentForm
    list_lead = "A role holds from its first moment until its end. Past rows stay as history."
    empty_text = "Give somebody a role to let them in."
    list_display = ("user", "role", "where", "valid_from", "valid_until", "state")
    list_filter = ("role",)
    list_select_related = ("user", "role", "customer")
    search_fields = ("user__name", "user__username", "user__email")
    autocomplete_fields = ("user", "customer")
    actions = ("end_now",)
    fields = ("user", "role", "customer", "valid_from", "valid_until", "reason")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Given by whoever decides for the house."""
        return access.is_house_wide(request.user, "manage_roles")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A row is ended and given anew, never edited."""
        return False

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """From now on."""
        now = timezone.localtime().replace(second=0, microsecond=0)
        return {"valid_from": now} | super().get_changeform_initial_data(request)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """The form, knowing who fills it in."""
        base = super().get_form(request, obj, change, **kwargs)
        return type("AssignmentForm", (base,), {"actor": request.user})

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        """Plain lists: people and roles are made on pages of their own."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        widget = getattr(field, "widget", None)
        for name in ("can_add_related", "can_change_related", "can_view_related"):
            if hasattr(widget, name):
                setattr(widget, name, False)
        return field

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Give the role."""
        try:
            with transaction.atomic():
                given = roles.assign(
                    user=obj.user,
                    role=obj.role,
                    customer_id=obj.customer_id,
                    valid_from=obj.valid_from,
                    valid_until=obj.valid_until,
                    reason=obj.reason,
                    actor=cast("User", request.user),
                )
                obj.pk = given.pk
                obj._state.adding = False
                self._record_assignment(request, "role.given", given)
        except NotPermitted as refusal:
            raise PermissionDenied(str(refusal)) from refusal

    def _record_assignment(
        self, request: HttpRequest, action: str, assignment: RoleAssignment
    ) -> None:
        self.record(
            request,
            action,
            assignment,
            customer_id=assignment.customer_id,
            reason=assignment.reason,
            after={
                "person": assignment.user_id,
                "role": assignment.role.code,
                "from": assignment.valid_from.isoformat(),
                "until": assignment.valid_until and assignment.valid_until.isoformat(),
            },
        )

    @admin.action(description="End now", permissions=["manage_people"])
    def end_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """End the chosen assignments at this moment."""
        now = timezone.now()
        for pk in queryset.values_list("pk", flat=True):
            try:
                with transaction.atomic():
                    ended = roles.end(pk, at=now, actor=cast("User", request.user))
                    self._record_assignment(request, "role.ended", ended)
            except NotPermitted as refusal:
                self.message_user(request, str(refusal), messages.ERROR)
            else:
                self.message_user(request, f"{ended} has ended.", messages.SUCCESS)

    @admin.display(description="where", ordering="customer__name")
    def where(self, assignment: RoleAssignment) -> str:
        """The customer, or the whole house."""
        return where_of(assignment)

    @admin.display(description="in force")
    def state(self, assignment: RoleAssignment) -> str:
        """Whether it holds now."""
        now = timezone.now()
        if assignment.valid_until is not None and assignment.valid_until <= now:
            return "ended"
        return "not yet" if assignment.valid_from > now else "yes"

    def get_urls(self) -> list[URLPattern]:
        """One page more: everybody who can see a customer."""
        page = self.admin_site.admin_view(self.who_sees)
        own = [path("customer/<int:customer_id>/", page, name="accounts_who_sees")]
        return [*own, *super().get_urls()]

    def who_sees(self, request: HttpRequest, customer_id: int) -> HttpResponse:
        """Everybody who can see a customer, through which role, and what it allows."""
        may_ask = self.sees_all(request) or access.may(request.user, "manage_people", customer_id)
        model = RoleAssignment._meta.get_field("customer").related_model
        customer = cast("Any", model)._default_manager.filter(pk=customer_id).first()
        if customer is None or not may_ask:
            raise Http404
        rows = [
            {
                "person": row.user,
                "role": row.role,
                "where": where_of(row),
                "until": row.valid_until,
                "sentences": _sentences_of(row),
            }
            for row in access.who_may(customer_id)
        ]
        customer_url = reverse("admin:billing_customer_change", args=[customer_id])
        context = {
            **self.admin_site.each_context(request),
            "title": f"Who can see {customer}",
            "customer": customer,
            "customer_url": customer_url,
            "rows": rows,
            "opts": self.opts,
        }
        return TemplateResponse(request, "accounts/who_sees.html", context)


@admin.register(LoginEvent)
class LoginEventAdmin(HousePage):
    """Every attempt to log in."""

    view_permission = "view_audit"
    list_lead = "Who logged in, who tried to, from where."
    list_display = ("at", "username", "user", "address", "kind")
    list_filter = ("kind",)
    list_select_related = ("user",)
    search_fields = ("=username", "user__name")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Written at the door only."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never edited."""
        return False


def where_of(assignment: RoleAssignment) -> str:
    """The customer, or the whole house."""
    return "the whole house" if assignment.customer is None else str(assignment.customer)


def _sentences_of(assignment: RoleAssignment) -> list[str]:
    codes = set(assignment.role.permissions)
    if assignment.customer_id is not None:
        codes &= roles.CUSTOMER_CODES
    return roles.sentences(codes)
