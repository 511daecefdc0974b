"""Tasks of Hugging Face models, and the class of transformers that loads a model for each."""
# pyright: basic
# The mappings of transformers' auto classes have no public types.

from __future__ import annotations

from typing import Any

from sta.frontend.errors import ModelError
from sta.spec.suggestion import suggestion

TASKS: dict[str, tuple[str, ...]] = {
    "feature-extraction": ("AutoModel",),
    "text-classification": ("AutoModelForSequenceClassification",),
    "token-classification": ("AutoModelForTokenClassification",),
    "question-answering": ("AutoModelForQuestionAnswering",),
    "fill-mask": ("AutoModelForMaskedLM",),
    "text-generation": ("AutoModelForCausalLM",),
    "text2text-generation": ("AutoModelForSeq2SeqLM",),
    "image-classification": ("AutoModelForImageClassification",),
    "image-segmentation": ("AutoModelForSemanticSegmentation",),
    "object-detection": ("AutoModelForObjectDetection",),
    "depth-estimation": ("AutoModelForDepthEstimation",),
    "audio-classification": ("AutoModelForAudioClassification",),
    "automatic-speech-recognition": ("AutoModelForSpeechSeq2Seq", "AutoModelForCTC"),
}
"""Names of transformers' auto classes by task, the first that knows a model counts; text-generation is one step."""


def auto_class(config: Any, task: str | None) -> tuple[str, Any]:
    """
    The task, and the auto class that loads a model of `config` for it.

    Without a task it is that of the class that `config` names, the one that was trained. Raises ModelError for a task
    that is unknown, or that transformers has no such model for.
    """
    if task is None:
        return _trained_task(config)
    if task not in TASKS:
        raise ModelError(f"unknown task {task!r}, it is one of {', '.join(TASKS)}{suggestion(task, TASKS)}")
    if (found := _class_for(config, task)) is not None:
        return task, found
    known = [one for one in TASKS if _class_for(config, one) is not None]
    raise ModelError(
        f"transformers has no model of type {config.model_type!r} for {task}: its tasks are {', '.join(known)}"
    )


def _trained_task(config: Any) -> tuple[str, Any]:
    trained = (config.architectures or [""])[0]
    for task in TASKS:
        found = _class_for(config, task)
        if found is not None and trained in _class_names(found, config):
            return task, found
    return auto_class(config, "feature-extraction")


def _class_for(config: Any, task: str) -> Any:
    """The auto class of a task that knows models of `config`; None if there is none."""
    import transformers

    classes = (getattr(transformers, name) for name in TASKS[task])
    return next((one for one in classes if type(config) in one._model_mapping), None)


def _class_names(auto: Any, config: Any) -> list[str]:
    """The names of the classes that `auto` knows for `config`; some types have several."""
    found = auto._model_mapping[type(config)]
    return [one.__name__ for one in (found if isinstance(found, list | tuple) else [found])]
