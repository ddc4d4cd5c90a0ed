"""How a tail that an endpoint makes on demand is called: `MODEL[:FINGERPRINT]@CUT[+fp16|+int8=SCALE:ZERO,…]`.

Scales come from the samples that a head was made with. They stand in the name, exact to the bit, so that any endpoint
makes the very tail that belongs to this head.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from edge_sdk.errors import InputError
from edge_sdk.graph.codec import SCALED_CODECS, Scales, coding_mark, coding_text, read_coding
from edge_sdk.graph.flow import Cut

__all__ = ["TailName"]

_ID = re.compile(r"[0-9a-f]{12}")
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")
_MAX_CHARS = 8192
_MAX_TENSORS = 256
_SHORT_PRINT = 16


@dataclass(frozen=True, slots=True)
class TailName:
    """Names a tail.

    Attributes:
        model: the whole, as the endpoint calls it.
        cut: id of the cut, or names of its tensors with commas between, each quoted as in a URL.
        codec: how the cut's tensors travel, one of `edge_sdk.graph.codec.CODECS`.
        fingerprint: of the model file that was cut, or how it begins; "" where the endpoint has just one.
        scales: of each tensor that the codec scales, in the cut's order.
    """

    model: str
    cut: str
    codec: str = "none"
    fingerprint: str = ""
    scales: tuple[Scales, ...] = ()

    @classmethod
    def of_tensors(
        cls,
        model: str,
        tensors: tuple[str, ...],
        codec: str = "none",
        fingerprint: str = "",
        scales: tuple[Scales, ...] = (),
    ) -> TailName:
        """The tail behind these tensors: for cuts that the endpoint may not list, as those of many tensors.

        Raises:
            InputError: the name is too long to travel, because of scales of channels or of very many tensors.
        """
        listed = ",".join(quote(name, safe="/:;. ") for name in tensors)
        return cls(model, listed, codec, fingerprint, scales)._checked()

    @classmethod
    def of_cut(
        cls, model: str, cut: Cut, codec: str = "none", fingerprint: str = "", scales: tuple[Scales, ...] = ()
    ) -> TailName:
        """The shortest name that any endpoint of ours finds, since it travels with each request: the cut's id where it
        is of one tensor or at the inputs, of which endpoints know all, and with 16 digits of the fingerprint.

        Raises:
            InputError: as `of_tensors`.
        """
        told = fingerprint[:_SHORT_PRINT]
        if len(cut.tensors) == 1 or cut.is_at_inputs:
            return cls(model, cut.id, codec, told, scales)._checked()
        return cls.of_tensors(model, cut.tensors, codec, told, scales)

    def _checked(self) -> TailName:
        if (chars := len(str(self))) > _MAX_CHARS:
            wide = "one scale for each tensor (int8, int4)" if self.codec.endswith("c") else "a cut of fewer tensors"
            raise InputError(f"the tail's name has {chars} characters, more than {_MAX_CHARS}; expected {wide}")
        return self

    @classmethod
    def parse(cls, text: str) -> TailName | None:
        """What `text` names; None where it is a model's own name, without "@".

        Raises:
            InputError: it is no name of this form.
        """
        whole, at, cut = text.partition("@")
        if not at:
            return None
        model, colon, fingerprint = whole.partition(":")
        stem, _, coding = cut.rpartition("+")
        codec, scales = (read_coding(coding, _MAX_TENSORS) if stem else None) or ("", ())
        if codec:
            cut = stem
        misspelt = not codec and bool(stem) and coding.partition("=")[0] in SCALED_CODECS
        bad_print = bool(colon) and _FINGERPRINT.fullmatch(fingerprint) is None
        if not model or not cut or bad_print or misspelt or len(text) > _MAX_CHARS or cut.count(",") >= _MAX_TENSORS:
            raise InputError(
                f"tail {text[:100]!r}: expected MODEL@CUT, MODEL@TENSOR,TENSOR or MODEL:FINGERPRINT@CUT,"
                " with +fp16 or +int8=SCALE:ZERO,… where a codec is meant"
            )
        return cls(model, cut, codec or "none", fingerprint, scales)

    def __str__(self) -> str:
        told = f":{self.fingerprint}" if self.fingerprint else ""
        return f"{self.model}{told}@{self.cut}" + ("" if self.codec == "none" else f"+{self.coding}")

    @property
    def coding(self) -> str:
        """The codec with its scales."""
        return coding_text(self.codec, self.scales)

    @property
    def coding_mark(self) -> str:
        """The same as `TailIdentity` has it."""
        return coding_mark(self.codec, self.scales)

    @property
    def cut_id(self) -> str:
        """The cut's id; "" where `cut` is of another form, so names tensors."""
        return self.cut if _ID.fullmatch(self.cut) else ""

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors, if `cut` is not an id."""
        return tuple(unquote(name) for name in self.cut.split(","))
