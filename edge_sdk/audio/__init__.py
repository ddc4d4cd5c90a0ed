"""Sound to tensors, and what models answer about it to stretches of speech."""

from edge_sdk.audio.sound import MAX_SAMPLES, read_wav, windows
from edge_sdk.audio.speech import Stretch, speech_stretches

__all__ = ["MAX_SAMPLES", "Stretch", "read_wav", "speech_stretches", "windows"]
