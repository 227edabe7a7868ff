"""Opens the wire of a model. The SDKs take seconds to import, so call this in a thread."""

from policy.models import Model

from executor.adapters.received import Wire
from executor.settings import is_local


def open_wire(model: Model, api_key: str) -> Wire:
    """A client for the model's provider; slow the first time."""
    # A provider on this machine is never behind a proxy.
    trust_env = not is_local(model.base_url)
    match model.wire:
        case "anthropic":
            from executor.adapters.anthropic_messages import AnthropicMessages

            return AnthropicMessages(base_url=model.base_url, api_key=api_key, trust_env=trust_env)
        case "openai-chat":
            from executor.adapters.openai_chat import OpenAIChat

            return OpenAIChat(base_url=model.base_url, api_key=api_key, trust_env=trust_env, provider=model.provider)
        case "openai-responses":
            from executor.adapters.openai_responses import OpenAIResponses

            return OpenAIResponses(base_url=model.base_url, api_key=api_key, trust_env=trust_env)
