"""Values that are files: images, sound, film, HTML, plots. They are encoded when they are made, by what the program has
already (PIL, soundfile, moviepy, matplotlib, plotly), and where it can be done simply by Python's own library."""
from __future__ import annotations

import importlib
import io
import json
import os
import struct
import sys
import zlib
from typing import Any, Iterable, Sequence

LIST_MAX = 108  # images of one list, as W&B's client has it
IMAGE_FORMATS = ("png", "jpg", "jpeg", "bmp")
VIDEO_FORMATS = ("gif", "mp4", "webm", "ogg")
_MAGIC = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpg"), (b"GIF8", "gif"), (b"BM", "bmp"), (b"RIFF", "webp"))


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _read(path: Any) -> bytes:
    with open(path, "rb") as f:
        return f.read()


def _bytes_of(source: Any) -> bytes | None:
    """Of bytes or an open file; None: it is neither."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if hasattr(source, "read"):
        if hasattr(source, "seek"):
            source.seek(0)
        data = source.read()
        return data.encode() if isinstance(data, str) else data
    return None


def _is_path(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike))


def _ext(path: Any) -> str:
    return os.path.splitext(os.fspath(path))[1]


def _from(module: str, value: Any) -> bool:
    """Is it an object of that library?"""
    return any(c.__module__.split(".")[0] == module for c in type(value).__mro__)


def _array(data: Any) -> Any:
    """A numpy array of an array of any library."""
    if hasattr(data, "detach"):
        data = data.detach().cpu()
    if hasattr(data, "numpy"):
        data = data.numpy()
    numpy = _library("numpy")
    if numpy is None:
        raise ValueError("numpy is needed for arrays")
    return numpy.asarray(data)


class Media:
    """A value that is a file. What it holds is a copy."""

    _type = "file"

    def __init__(self, data: bytes, ext: str, caption: str | None = None, **more: Any):
        self._data = data
        self._ext_text = ext
        self._more = {k: v for k, v in {"caption": caption, **more}.items() if v is not None}

    @property
    def _caption(self) -> str | None:
        return self._more.get("caption")

    def _wbx(self) -> tuple:
        return {"_type": self._type, "ext": self._ext_text, **self._more}, self._data

    @classmethod
    def _list(cls, items: Sequence["Media"]) -> dict[str, Any] | None:
        """The value that W&B has for several of them; None: a list."""
        return None

    def __repr__(self) -> str:
        return f"<wbx.{type(self).__name__} of {len(self._data)} bytes>"


def _captions(items: Sequence[Media]) -> list[str | None] | None:
    return [item._caption for item in items] if items[0]._caption is not None else None


class Classes:
    """Names of classes: [{"id": 1, "name": "cat"}, ...]."""

    def __init__(self, class_set: Iterable[dict[str, Any]]):
        self._class_set = list(class_set)


def _jsonable(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value.item() if hasattr(value, "item") else str(value)


def _labels(labels: dict[Any, str]) -> dict[str, str]:
    for key, name in labels.items():
        if isinstance(key, str) or not isinstance(name, str):
            raise TypeError("class_labels must be a dict of numbers to str")
    return {str(k): v for k, v in labels.items()}


class BoundingBoxes2D(Media):
    """Boxes on an image: {"box_data": [{"position": ..., "class_id": ...}, ...], "class_labels": {number: name}}."""

    _type = "boxes2D"

    def __init__(self, val: dict[str, Any], key: str = ""):
        boxes = val["box_data"]
        if not isinstance(boxes, list):
            raise TypeError("box_data must be a list")
        for box in boxes:
            self._check(box)
        labels = val.get("class_labels")
        if labels is None:
            labels = {int(c): f"class_{int(c)}" for c in sorted({box["class_id"] for box in boxes})}
        super().__init__(json.dumps(val, default=_jsonable, separators=(",", ":")).encode(), ".boxes2D.json", class_labels=_labels(labels))

    @staticmethod
    def _check(box: dict[str, Any]) -> None:
        position = box.get("position", {})
        middle = position.get("middle")
        if not (middle is not None and len(middle) == 2 and {"width", "height"} <= set(position)) and not {"minX", "minY", "maxX", "maxY"} <= set(position):
            raise TypeError("each box must have a position with middle, width and height, or with minX, maxX, minY and maxY")


class ImageMask(Media):
    """A mask on an image: {"mask_data": 2-D array of numbers of classes} or {"path": of a PNG}, "class_labels": {number: name}."""

    _type = "mask"

    def __init__(self, val: dict[str, Any], key: str = ""):
        if "path" in val:
            data, labels = _read(val["path"]), val.get("class_labels", {})
        else:
            mask = _array(val["mask_data"])
            if mask.ndim != 2 or (mask < 0).any() or (mask > 255).any():
                raise TypeError("mask_data must be a 2-D array of integers from 0 to 255")
            labels = val.get("class_labels")
            if labels is None:
                labels = {int(c): f"class_{int(c)}" for c in sorted(set(mask.flatten().tolist()))}
            data = _encode_image(mask.astype("uint8"), "L", "png")
        super().__init__(data, ".mask.png", class_labels=_labels(labels))


def _png(array: Any) -> bytes:
    """A PNG of a uint8 array, (height, width) or with 3 or 4 channels, without PIL."""
    height, width = array.shape[:2]
    channels = 1 if array.ndim == 2 else array.shape[2]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + array[y].tobytes() for y in range(height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _encode_image(array: Any, mode: str | None, form: str) -> bytes:
    pil = _library("PIL.Image")
    if pil is None:
        if form != "png" or mode not in (None, "L", "RGB", "RGBA"):
            raise ValueError(f"PIL is needed for images as {form}, mode {mode}")
        return _png(array)
    image = pil.fromarray(array)
    return _save_image(image.convert(mode) if mode is not None else image, form)


def _save_image(image: Any, form: str) -> bytes:
    out = io.BytesIO()
    if form in ("jpg", "jpeg") and image.mode == "RGBA":
        image = image.convert("RGB")
    image.save(out, format="jpeg" if form == "jpg" else form, transparency=None)
    return out.getvalue()


def _mode_of(array: Any, channels: int, form: str) -> str:
    if array.ndim == 2 or channels == 1:
        return "L"
    if channels == 3:
        return "RGB"
    if channels == 4:
        return "RGB" if form in ("jpg", "jpeg") else "RGBA"
    raise ValueError(f"an array of shape {list(array.shape)} is no image")


def _size_of(data: bytes) -> tuple[int | None, int | None]:
    """Width and height of an encoded image."""
    if data[:4] == b"\x89PNG" and len(data) >= 24:
        return struct.unpack(">II", data[16:24])
    pil = _library("PIL.Image")
    if pil is None:
        return None, None
    try:
        with pil.open(io.BytesIO(data)) as image:
            return image.size
    except Exception:  # noqa: BLE001: PIL raises many kinds of what it cannot read
        raise ValueError("that is no image that PIL can read") from None


def figure_of(value: Any) -> Any:
    """The matplotlib figure of a figure, of axes, or of pyplot itself."""
    if hasattr(value, "savefig") and hasattr(value, "axes"):
        return value
    if hasattr(value, "get_figure"):
        return value.get_figure()
    if hasattr(value, "gcf"):
        return value.gcf()
    raise ValueError(f"there is no figure in {type(value).__name__}")


layers_made = False  # some image has boxes or masks: rows have to be looked at for their classes


def class_labels(data: dict[str, Any], found: dict[str, dict[str, Any]]) -> bool:
    """Adds the names of classes that a row's images have, as W&B's config has them, to found; True when there were new ones."""
    new = False
    for key, value in data.items():
        if isinstance(value, dict):
            new |= class_labels(value, found)
            continue
        for image in value if isinstance(value, (list, tuple)) else (value,):
            for layers, kind in (("boxes", "bounding_box"), ("masks", "mask")):
                for name, layer in (getattr(image, "_more", None) or {}).get(layers, {}).items():
                    one, full = f"{kind}/class_labels", f"{key}_wandb_delimeter_{name}"
                    entry = {"type": one, "key": full, "value": layer._more["class_labels"]}
                    new |= found.setdefault(one, {}).get(full) != entry
                    found[one][full] = entry
    return new


class Image(Media):
    """An image, from an array (height, width, channels), a torch tensor (channels, height, width), a PIL image, a matplotlib figure, a
    path, or the bytes of an image file. Values of arrays are from 0 to 255."""

    _type = "image-file"

    def __init__(self, data_or_path: Any, mode: str | None = None, caption: str | None = None, grouping: int | None = None, classes: Any = None,
                 boxes: dict[str, Any] | None = None, masks: dict[str, Any] | None = None, file_type: str | None = None):
        if file_type is not None and file_type not in IMAGE_FORMATS:
            raise ValueError(f"file_type must be one of {list(IMAGE_FORMATS)}")
        if isinstance(data_or_path, Image):
            data, form = data_or_path._data, data_or_path._more["format"]
            caption = caption if caption is not None else data_or_path._caption
        elif _is_path(data_or_path):
            data, form = _read(data_or_path), _ext(data_or_path)[1:]
        elif (data := _bytes_of(data_or_path)) is not None:
            form = next((name for magic, name in _MAGIC if data.startswith(magic)), file_type or "png")
        else:
            form = file_type or "png"
            data = self._encode(data_or_path, mode, form)
        width, height = _size_of(data)
        super().__init__(data, f".{form}" if form else ".bin", caption, format=form, width=width, height=height, grouping=grouping or None,
                         boxes=self._layers(boxes, BoundingBoxes2D), masks=self._layers(masks, ImageMask))
        self._classes = classes

    @staticmethod
    def _layers(layers: dict[str, Any] | None, kind: Any) -> dict[str, Any] | None:
        global layers_made
        if not layers:
            return None
        layers_made = True
        if not isinstance(layers, dict):
            raise ValueError("boxes and masks must be dicts")
        return {key: one if isinstance(one, kind) else kind(one, key) for key, one in layers.items()}

    @staticmethod
    def _encode(source: Any, mode: str | None, form: str) -> bytes:
        if _from("matplotlib", source):
            out = io.BytesIO()
            figure_of(source).savefig(out, format=form)
            return out.getvalue()
        if _from("PIL", source):
            return _save_image(source, form)
        is_torch = hasattr(source, "detach")
        array = _array(source)
        if is_torch and array.ndim == 3:
            mode = mode or _mode_of(array, array.shape[0], form)
            array = array.transpose(1, 2, 0)
        if array.ndim > 2:
            array = array.squeeze()
        if array.ndim not in (2, 3):
            raise ValueError(f"an array of shape {list(array.shape)} is no image")
        mode = mode or _mode_of(array, array.shape[-1], form)
        numpy = sys.modules["numpy"]
        return _encode_image(numpy.ascontiguousarray(array.astype(numpy.uint8)), mode, form)

    @classmethod
    def _list(cls, items: Sequence[Any]) -> dict[str, Any]:
        first = items[0]._more
        value: dict[str, Any] = {"_type": "images/separated", "width": first.get("width"), "height": first.get("height"), "format": first["format"],
                                 "count": len(items), "filenames": [_Bare(item) for item in items]}
        if captions := _captions(items):
            value["captions"] = captions
        for name in ("masks", "boxes"):
            layers = [item._more.get(name) for item in items]
            if any(layers):
                value[f"all_{name}"] = layers
        return value


class _Bare(Media):
    """An image of a list, of which only the path is wanted."""

    _type = "image-file"

    def __init__(self, image: Image):
        super().__init__(image._data, image._ext_text)


class Html(Media):
    """HTML, from a text, a path that ends in .html, or an open file. inject: W&B's stylesheet is put in."""

    _type = "html-file"
    _HEAD = '<base target="_blank"><link rel="stylesheet" type="text/css" href="https://app.wandb.ai/normalize.css" />'

    def __init__(self, data: Any, inject: bool = True, data_is_not_path: bool = False):
        if _is_path(data) and not data_is_not_path and _ext(data) == ".html" and os.path.isfile(data):
            text = _read(data).decode("utf-8", "replace")
        elif isinstance(data, str):
            text = data
        elif (raw := _bytes_of(data)) is not None:
            text = raw.decode("utf-8", "replace")
        else:
            raise ValueError("data must be a text or an open file")
        self.html = self._inject(text) if inject else text
        super().__init__(self.html.encode("utf-8", "replace"), ".html")

    @classmethod
    def _inject(cls, text: str) -> str:
        for mark, before, after in (("<head>", "<head>", ""), ("<html>", "<html><head>", "</head>")):
            if mark in text:
                return text.replace(mark, before + cls._HEAD + after, 1).strip()
        return (cls._HEAD + text).strip()

    @classmethod
    def _list(cls, items: Sequence[Media]) -> dict[str, Any]:
        return {"_type": "html", "count": len(items), "html": _each(items)}


class Audio(Media):
    """Sound, from a path, bytes of a WAV file, or samples from -1 to 1 (then with sample_rate)."""

    _type = "audio-file"

    def __init__(self, data_or_path: Any, sample_rate: int | None = None, caption: str | None = None):
        self._sample_rate, self._duration = sample_rate, None
        if _is_path(data_or_path):
            data, ext = _read(data_or_path), _ext(data_or_path)
        elif (raw := _bytes_of(data_or_path)) is not None:
            data, ext = raw, ".wav"
        else:
            if sample_rate is None:
                raise ValueError("samples need a sample_rate")
            data, ext = self._encode(data_or_path, sample_rate), ".wav"
            self._duration = len(data_or_path) / float(sample_rate)
        super().__init__(data, ext or ".bin", caption)

    @staticmethod
    def _encode(samples: Any, rate: int) -> bytes:
        out = io.BytesIO()
        soundfile = _library("soundfile")
        if soundfile is not None:
            soundfile.write(out, samples, rate, format="WAV")
            return out.getvalue()
        import wave
        array = _array(samples)
        if array.dtype.kind == "f":
            array = (array.clip(-1, 1) * 32767).astype("<i2")
        with wave.open(out, "wb") as f:
            f.setnchannels(1 if array.ndim == 1 else array.shape[1])
            f.setsampwidth(2)
            f.setframerate(rate)
            f.writeframes(array.astype("<i2").tobytes())
        return out.getvalue()

    @classmethod
    def _list(cls, items: Sequence[Any]) -> dict[str, Any]:
        value = {"_type": "audio", "count": len(items), "audio": _each(items), "sampleRates": [a._sample_rate for a in items],
                 "durations": [a._duration for a in items]}
        if any(a._caption is not None for a in items):
            value["captions"] = [a._caption or "" for a in items]
        return value


class Video(Media):
    """Film, from a path, bytes or an open file (then with format), or an array (frames, channels, height, width), which moviepy encodes,
    or PIL for a GIF."""

    _type = "video-file"

    def __init__(self, data_or_path: Any, caption: str | None = None, fps: int | None = None, format: str | None = None):
        width = height = None
        if _is_path(data_or_path):
            form, data = _ext(data_or_path)[1:].lower(), _read(data_or_path)
        else:
            form, data = format or "", _bytes_of(data_or_path)
        if form not in VIDEO_FORMATS:
            raise ValueError(f"a video is one of {', '.join(VIDEO_FORMATS)}, not {form!r}: say format=")
        if data is None:
            frames = self._frames(_array(data_or_path))
            height, width = frames.shape[1:3]
            data = self._encode(frames, fps or 4, form)
        super().__init__(data, f".{form}", caption, width=width, height=height)

    @staticmethod
    def _frames(video: Any) -> Any:
        """(frames, height, width, channels); several videos stand beside one another."""
        numpy = sys.modules["numpy"]
        if video.ndim < 4:
            raise ValueError("a video has at least 4 dimensions: frames, channels, height, width")
        if video.ndim == 4:
            video = video.reshape(1, *video.shape)
        count, t, c, h, w = video.shape
        video = video.astype(numpy.uint8)
        more = (1 << (count - 1).bit_length()) - count
        if more:
            video = numpy.concatenate((video, numpy.zeros((more, t, c, h, w), dtype=numpy.uint8)), axis=0)
        rows = 2 ** ((count.bit_length() - 1) // 2)
        columns = video.shape[0] // rows
        video = video.reshape(rows, columns, t, c, h, w).transpose(2, 0, 4, 1, 5, 3)
        return video.reshape(t, rows * h, columns * w, c)

    @staticmethod
    def _encode(frames: Any, fps: int, form: str) -> bytes:
        import tempfile
        if form == "gif" and (pil := _library("PIL.Image")) is not None:
            images = [pil.fromarray(f.squeeze()) for f in frames]
            out = io.BytesIO()
            images[0].save(out, format="gif", save_all=True, append_images=images[1:], duration=1000 / fps, loop=0)
            return out.getvalue()
        moviepy = _library("moviepy.video.io.ImageSequenceClip")
        if moviepy is None:
            raise ValueError(f"moviepy is needed to encode arrays as {form}")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, f"video.{form}")
            moviepy.ImageSequenceClip(list(frames), fps=fps).write_videofile(path, logger=None)
            return _read(path)

    @classmethod
    def _list(cls, items: Sequence[Media]) -> dict[str, Any]:
        return {"_type": "videos", "count": len(items), "videos": _each(items), "captions": _captions(items) or False}


class Plotly(Media):
    """A plotly figure, or a matplotlib one as plotly draws it."""

    _type = "plotly-file"

    def __init__(self, val: Any):
        if _from("matplotlib", val):
            val = importlib.import_module("plotly.tools").mpl_to_plotly(figure_of(val))
        super().__init__(json.dumps(val.to_plotly_json(), default=_jsonable, separators=(",", ":")).encode(), ".plotly.json")


def figure(value: Any) -> Media | None:
    """What a plot becomes that is logged as it is; None: it is none. A matplotlib figure is plotly's where there is plotly and no
    image in it, as W&B's client does it, else an image."""
    if _from("plotly", value) and hasattr(value, "to_plotly_json"):
        return Plotly(value)
    if not _from("matplotlib", value) and getattr(value, "__name__", "") != "matplotlib.pyplot":
        return None
    try:
        fig = figure_of(value)
    except ValueError:
        return None
    if not any(axes.images for axes in fig.axes) and _library("plotly") is not None:
        try:
            return Plotly(fig)
        except Exception:  # noqa: BLE001: what plotly cannot convert is drawn
            pass
    return Image(fig)


class _Value(Media):
    """A value that is made of others, without bytes of its own."""

    def __init__(self, value: dict[str, Any]):
        self._value = value

    def _wbx(self) -> tuple:
        return self._value, None


class _One(Media):
    """One of a list, as it is: the list has become a value already."""

    def __init__(self, item: Media):
        self._item = item

    def _wbx(self) -> tuple:
        return self._item._wbx()


def _each(items: Sequence[Media]) -> list[Media]:
    return [_One(item) for item in items]


def batch(items: Sequence[Any]) -> Media | None:
    """What a list of files becomes: W&B's value for several of a kind; None: a list."""
    kind = type(items[0])
    if not all(type(item) is kind for item in items):
        return None
    value = kind._list(list(items)[:LIST_MAX])
    return _Value(value) if value is not None else None
