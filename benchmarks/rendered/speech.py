"""Speech of espeak-ng: voices, languages, words. Each speaker of words and languages is in one split."""

import numpy as np

from .clips import Clip, Part, Speech, draw_clips, share_out

VOICES = ("m1", "m3", "m7", "f2", "f4", "klatt2", "croak", "whisper", "Alex", "linda", "grandpa", "Annie")
"""Variants of espeak-ng: the classes of `speech_voice`, used nowhere else."""

SPEAKERS: dict[Part, tuple[str, ...]] = {
    "train": ("m2", "m5", "m8", "f1", "f5", "Andy", "belinda", "david", "steph", "klatt", "Denis", "Jacky"),
    "valid": ("m4", "aunty", "paul"),
    "test": ("m6", "f3", "klatt4", "Michael", "anika", "Mario"),
}
"""Variants that say the words and the languages."""

WORDS = (
    "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go",
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
)  # fmt: skip
"""Twenty short words, as in the usual corpora of spoken commands."""

LANGUAGES: dict[str, str] = {
    "en-us": "morning water people garden winter letter bridge music yellow window mother river "
    "the and of we have small never under because town always again where paper think "
    "street bring",
    "de": "morgen wasser leute garten winter brief brücke musik gelb fenster mutter fluss der und von wir haben "
    "klein niemals unter weil stadt immer wieder wo papier denken straße bringen",
    "fr": "matin eau gens jardin hiver lettre pont musique jaune fenêtre mère rivière le et de nous avons petit "
    "jamais sous parce ville toujours encore où papier penser rue apporter",
    "es": "mañana agua gente jardín invierno carta puente música amarillo ventana madre río el y de nosotros "
    "tenemos pequeño nunca bajo porque ciudad siempre otra donde papel pensar calle traer",
    "it": "mattina acqua gente giardino inverno lettera ponte musica giallo finestra madre fiume il e di noi "
    "abbiamo piccolo mai sotto perché città sempre ancora dove carta pensare strada portare",
    "pl": "rano woda ludzie ogród zima list most muzyka żółty okno matka rzeka ten i z my mamy mały nigdy pod "
    "ponieważ miasto zawsze znowu gdzie papier myśleć ulica przynieść",
    "fi": "aamu vesi ihmiset puutarha talvi kirje silta musiikki keltainen ikkuna äiti joki tämä ja se me meillä "
    "pieni koskaan alla koska kaupunki aina taas missä paperi ajatella katu tuoda",
    "tr": "sabah su insanlar bahçe kış mektup köprü müzik sarı pencere anne nehir bu ve ile biz bizim küçük asla "
    "altında çünkü şehir her yine nerede kağıt düşünmek sokak getirmek",
}
"""Common words of each language by its espeak-ng name; sentences are drawn from them."""

TENTHS: dict[Part, tuple[int, ...]] = {"train": tuple(range(7)), "valid": (7,), "test": (8, 9)}
"""Which of every ten words of a language each part says."""


def sentence(rng: np.random.Generator, language: str, part: Part, words: int) -> str:
    """Words of a language that no other part says, in random order, and a number that espeak-ng reads out."""
    own = [word for place, word in enumerate(LANGUAGES[language].split()) if place % 10 in TENTHS[part]]
    chosen = [str(word) for word in rng.choice(own, size=words)]
    chosen.insert(int(rng.integers(words + 1)), str(rng.integers(2, 1000)))
    return " ".join(chosen)


def _say(rng: np.random.Generator, language: str, variant: str, text: str) -> Speech:
    return Speech(language, variant, text, int(rng.integers(130, 200)), int(rng.integers(30, 71)))


def voice_clips(seed: int, clips: int) -> list[Clip]:
    """`speech_voice`: three seconds of any language, at any pitch; who? Words of the test part are its own."""

    def draw(rng: np.random.Generator, part: Part, number: int) -> tuple[tuple[str, ...], str, Speech]:
        voice = VOICES[number % len(VOICES)]
        language = str(rng.choice(list(LANGUAGES)))
        text, pace = sentence(rng, language, part, 6), int(rng.integers(110, 231))
        said = Speech(language, voice, text, pace, int(rng.integers(10, 91)))
        return (voice,), f"{part} sentence {number}", said

    return draw_clips("speech_voice", (seed, 5), share_out(clips, len(VOICES)), 3.0, draw)


def language_clips(seed: int, clips: int) -> list[Clip]:
    """`speech_language`: three seconds; of which language? Voices and words of the test part are its own."""
    names = list(LANGUAGES)

    def draw(rng: np.random.Generator, part: Part, number: int) -> tuple[tuple[str, ...], str, Speech]:
        language = names[number % len(names)]
        voice = SPEAKERS[part][number // len(names) % len(SPEAKERS[part])]
        text = sentence(rng, language, part, 6)
        return (language,), voice, _say(rng, language, voice, text)

    return draw_clips("speech_language", (seed, 6), share_out(clips, len(names)), 3.0, draw)


def word_clips(seed: int, clips: int) -> list[Clip]:
    """`words`: one second; which of twenty words? Voices of the test part are its own."""

    def draw(rng: np.random.Generator, part: Part, number: int) -> tuple[tuple[str, ...], str, Speech]:
        word = WORDS[number % len(WORDS)]
        voice = SPEAKERS[part][number // len(WORDS) % len(SPEAKERS[part])]
        return (word,), voice, _say(rng, "en-us", voice, word)

    return draw_clips("words", (seed, 7), share_out(clips, len(WORDS)), 1.0, draw)


def pretraining_speech(rng: np.random.Generator) -> Speech:
    """Words and voices of the training parts in any language."""
    language = str(rng.choice(list(LANGUAGES)))
    voice = str(rng.choice(SPEAKERS["train"]))
    return _say(rng, language, voice, sentence(rng, language, "train", 12))


def pretraining_words(rng: np.random.Generator) -> Speech:
    """Words one by one, each as a sentence: commands or a language's, by a voice of the training parts."""
    language = str(rng.choice(list(LANGUAGES)))
    voice = str(rng.choice(SPEAKERS["train"]))
    if rng.uniform() < 0.5:
        language, words = "en-us", [str(word) for word in rng.choice(WORDS, size=6)]
    else:
        words = sentence(rng, language, "train", 6).split()
    return _say(rng, language, voice, ". ".join(words))
