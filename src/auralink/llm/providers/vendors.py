"""The vendors that can be configured: which format each speaks, where, and which environment variables name its key and address."""

from collections.abc import Mapping
from dataclasses import dataclass

from auralink.llm.providers.anthropic import AnthropicFormat
from auralink.llm.providers.google import GoogleFormat
from auralink.llm.providers.openai import OpenAIFormat
from auralink.llm.providers.protocol import Provider

REGISTRY: Mapping[str, Provider] = {"openai": OpenAIFormat(), "anthropic": AnthropicFormat(), "google": GoogleFormat()}
"""The wire formats by name. They hold no state."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """A provider of models, or a kind of server that an operator runs."""

    vendor_id: str
    title: str
    wire_format: str
    base_url: str
    """Where it is unless the operator says otherwise; for a server of the operator's own, its usual place on this machine."""
    key_variable: str
    base_url_variable: str
    self_hosted: bool = False
    """Whether the operator runs it: it is there when its address is set, and may do without a key."""


def _vendor(vendor_id: str, title: str, base_url: str, *, wire_format: str = "openai", self_hosted: bool = False) -> Vendor:
    prefix = vendor_id.upper()
    return Vendor(vendor_id, title, wire_format, base_url, f"{prefix}_API_KEY", f"{prefix}_BASE_URL", self_hosted)


VENDORS: Mapping[str, Vendor] = {
    vendor.vendor_id: vendor
    for vendor in (
        _vendor("openai", "OpenAI", "https://api.openai.com/v1"),
        _vendor("anthropic", "Anthropic", "https://api.anthropic.com", wire_format="anthropic"),
        _vendor("google", "Google", "https://generativelanguage.googleapis.com", wire_format="google"),
        _vendor("together", "Together AI", "https://api.together.xyz/v1"),
        _vendor("mistral", "Mistral AI", "https://api.mistral.ai/v1"),
        _vendor("groq", "Groq", "https://api.groq.com/openai/v1"),
        _vendor("deepseek", "DeepSeek", "https://api.deepseek.com"),
        _vendor("xai", "xAI", "https://api.x.ai/v1"),
        _vendor("openrouter", "OpenRouter", "https://openrouter.ai/api/v1"),
        _vendor("ollama", "Ollama", "http://localhost:11434/v1", self_hosted=True),
        _vendor("vllm", "vLLM", "http://localhost:8000/v1", self_hosted=True),
        _vendor("llamacpp", "llama.cpp", "http://localhost:8080/v1", self_hosted=True),
    )
}
