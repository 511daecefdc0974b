"""Hugging Face models: from a directory of config and safetensors to a module and inputs for it."""
