"""What people steer a factory by, from a program: preferences, budgets, overrides, the health of models.

A part of `Factory`; has no connection of its own.
"""

from datetime import timedelta
from decimal import Decimal

from factory.audit.v1 import PreviewRoutingRequest, PreviewRoutingResponse
from factory.model.v1 import ListRequest, Model, RecoverRequest, TripRequest
from factory.project.v1 import (
    Budget,
    GetBudgetRequest,
    GetBudgetResponse,
    GetPreferencesRequest,
    GetPreferencesResponse,
    Preferences,
    SavePreferencesRequest,
    SetBudgetRequest,
)
from factory.task.v1 import ExplainRequest, ExplainResponse, OverrideRequest

from factory_client.wire import Wire
from factory_client.words import phase_for, pico_usd

# Replays what the last tasks have used.
PREVIEW_TIMEOUT_S = 120


class Steering:
    """The questions and commands about who does what, and for how much."""

    _wire: Wire

    # Preferences

    async def preferences(self, project: str) -> GetPreferencesResponse:
        """How a project's tasks are routed, and every version there was, newest first."""
        return await self._wire.call(self._wire.projects.GetPreferences, GetPreferencesRequest(project=project))

    async def save_preferences(
        self, project: str, preferences: Preferences, *, expected_version: int | None = None, reason: str = ""
    ) -> int:
        """Saves preferences, and the version that stands then; ABORTED if another than the expected one stood."""
        request = SavePreferencesRequest(
            project=project, preferences=preferences, expected_version=expected_version, reason=reason
        )
        return (await self._wire.call(self._wire.projects.SavePreferences, request)).version

    async def preview_routing(self, project: str, preferences: Preferences, tasks: int = 20) -> PreviewRoutingResponse:
        """What preferences would have chosen for a project's last tasks, and what that would have cost."""
        request = PreviewRoutingRequest(
            project=project, preferences=preferences, tasks=tasks, min_position=self._wire.seen
        )
        return await self._wire.call(self._wire.audit.PreviewRouting, request, PREVIEW_TIMEOUT_S)

    # Budgets

    async def budget(self, project: str, month: str = "") -> GetBudgetResponse:
        """A project's budgets for a month ("2026-11", else the current one): limits, what is spent and reserved."""
        return await self._wire.call(self._wire.projects.GetBudget, GetBudgetRequest(project=project, month=month))

    async def set_budget(
        self,
        project: str,
        *,
        model: str = "",
        hard_usd: Decimal | str | float | None = None,
        soft_usd: Decimal | str | float | None = None,
        reason: str = "",
    ) -> Budget:
        """Sets both limits of a project, or of one model in it, from this month on; None means no such limit."""
        request = SetBudgetRequest(project=project, model=model, reason=reason)
        if hard_usd is not None:
            request.hard_pico_usd = pico_usd(hard_usd)
        if soft_usd is not None:
            request.soft_pico_usd = pico_usd(soft_usd)
        return (await self._wire.call(self._wire.projects.SetBudget, request)).budget

    # One task

    async def override(self, task_id: str, phase: str, model: str, reason: str = "") -> None:
        """Gives a phase of a task to a model; an empty model takes that back. A call that runs for it is stopped."""
        request = OverrideRequest(task_id=task_id, phase=phase_for(phase), model=model, reason=reason)
        await self._wire.call(self._wire.tasks.Override, request)

    async def explain(self, task_id: str, phase: str = "") -> ExplainResponse:
        """Every decision about a task (or one phase of it) in order, each with its receipt and in sentences."""
        request = ExplainRequest(task_id=task_id, phase=phase_for(phase))
        return await self._wire.call(self._wire.tasks.Explain, request)

    # Models

    async def models(self) -> list[Model]:
        """Every model in the routing table, what it can do, and how well it is."""
        return list((await self._wire.call(self._wire.models.List, ListRequest())).models)

    async def trip_model(self, model: str, duration: timedelta | None = None) -> None:
        """Routes nothing to a model for a while (else the factory's usual pause); running calls go on."""
        request = TripRequest(model=model)
        if duration is not None:
            request.duration.FromTimedelta(duration)
        await self._wire.call(self._wire.models.Trip, request)

    async def recover_model(self, model: str) -> None:
        """Routes to a model again."""
        await self._wire.call(self._wire.models.Recover, RecoverRequest(model=model))
