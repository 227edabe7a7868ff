"""Models as a fact, and back: who chooses again, or otherwise, needs to know what there was to choose from.

Pure. Addresses and keys are the executors' business, and no part of it.
"""

from collections.abc import Iterable, Mapping

from factory.model.v1 import ConfiguredModel, ModelsConfigured

from policy.models import Model


def configured(models: Mapping[str, Model], ruled_out: Mapping[str, str]) -> Iterable[ConfiguredModel]:
    """Each model as a fact tells it, by name; `ruled_out` says why one cannot serve at all."""
    for name, model in sorted(models.items()):
        yield ConfiguredModel(
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


def models_in(fact: ModelsConfigured) -> tuple[dict[str, Model], dict[str, str]]:
    """The models that a fact names, as far as choosing goes, and why some of them could not serve."""
    models = {
        one.model: Model(
            name=one.model,
            display_name=one.display_name,
            family=one.family,
            provider=one.provider,
            provider_model=one.provider_model,
            # No fact names how a model is reached, and no choice depends on it.
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
