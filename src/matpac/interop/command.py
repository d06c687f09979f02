"""`matpac export`: an encoder to an ONNX file."""


def export(*, encoder: str, output: str, int8: bool = False) -> int:
    """Write an encoder as one ONNX file: waveforms in, scenes and frames out, log-mel inside.

      matpac export --encoder runs/mine --output mine.onnx
      matpac export --encoder matpac++ --output matpac.onnx --int8
      matpac embed recordings --encoder mine.onnx --output vectors.parquet

    Before the file is written, it is compared with PyTorch's network over lengths, and an 8-bit one's vectors with
    float32's. Exit code: 0 when it was written, 2 for an error.

    Args:
        encoder: what matpac embed takes, except ONNX files.
        output: the file, ending on .onnx.
        int8: 8-bit matrices: a quarter of the size, and faster.
    """
    from matpac.files.load import load
    from matpac.files.onnx.export import CLOSE, export_onnx

    embedder = load(encoder)
    found = export_onnx(embedder, output, int8)
    first, last = (f"{found.lengths[place] / embedder.sample_rate:.2f}" for place in (0, -1))
    print(f"{found.path}: {found.size / 1e6:.1f} MB, {found.precision}")
    print(
        f"float32 graph against PyTorch: {found.difference:.1e} at most ({CLOSE:g} allowed), "
        f"{len(found.lengths)} lengths from {first} to {last} s"
    )
    if (cosines := found.cosines) is not None:
        print(
            f"8 bits against float32: cosine of scenes {cosines.mean:.5f}, least {cosines.least:.5f}, over "
            f"{cosines.sounds} synthetic sounds; {len(found.layers)} layers in 8 bits"
        )
    print(f"use it: matpac embed FILES --encoder {found.path} --output vectors.parquet")
    return 0
