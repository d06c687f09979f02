"""Where to compute: a device by name, or the best that this machine has."""

from matpac.errors import MatpacError


def choose_device(name: str, local_rank: int = 0) -> str:
    """The device meant by `auto`: a GPU where there is one.

    Raises:
        MatpacError: torch knows no such device, or this machine has none.
    """
    import torch

    if name != "auto":
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
            reason = str(error).splitlines()[0]
            raise MatpacError(f"--device {name}: cannot be used here ({reason})") from error
        return name
    if torch.cuda.is_available():
        return f"cuda:{local_rank % torch.cuda.device_count()}"  # several processes of a machine take turns
    return "mps" if torch.backends.mps.is_available() else "cpu"
