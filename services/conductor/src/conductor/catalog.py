"""The models that a conductor routes over, as a fact: a decision can be made again only if it is known what there was.

Pure. Addresses and keys are the executors' business, and no part of it.
"""

from collections.abc import Mapping

from factory.model.v1 import ConfiguredModel, ModelsConfigured
from google.protobuf.json_format import MessageToDict
from policy.models import Model
from policy.receipts import inputs_digest

LANE_ID = "models"


def configured(models: Mapping[str, Model], ruled_out: Mapping[str, str]) -> ModelsConfigured:
    """The fact that says which models there are."""
    listed = [
        ConfiguredModel(
            model=model.name,
            display_name=model.display_name,
            family=model.family,
            provider=model.provider,
            provider_model=model.provider_model,
            context_window_tokens=model.context_window_tokens,
            max_output_tokens=model.max_output_tokens,
            image_input=model.image_input,
            structured_output=model.structured_output,
            pretend=model.pretend,
            ruled_out=ruled_out.get(name, ""),
        )
        for name, model in sorted(models.items())
    ]
    digest = inputs_digest({"models": [MessageToDict(one) for one in listed]})
    return ModelsConfigured(digest=digest, models=listed)


def models_in(fact: ModelsConfigured) -> tuple[dict[str, Model], dict[str, str]]:
    """The models that a fact says there were, as far as deciding goes, and why some of them could not serve."""
    models = {
        one.model: Model(
            name=one.model,
            display_name=one.display_name,
            family=one.family,
            provider=one.provider,
            provider_model=one.provider_model,
            wire="openai-chat",
            base_url="",
            key_env="",
            context_window_tokens=one.context_window_tokens,
            max_output_tokens=one.max_output_tokens,
            image_input=one.image_input,
            structured_output=one.structured_output,
            pretend=one.pretend,
        )
        for one in fact.models
    }
    return models, {one.model: one.ruled_out for one in fact.models}
