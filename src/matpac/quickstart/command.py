"""`matpac quickstart`: one command from nothing to an encoder trained, evaluated and used."""


def quickstart(
    *, output: str = "quickstart", seed: int = 0, epochs: float = 10, clips: int = 4000, labelled: int = 600
) -> int:
    """Pre-train, evaluate and use a tiny encoder on synthetic sounds.

    Generates a small corpus, pre-trains the tiny MATPAC++ recipe on its unlabelled part, probes the frozen encoder
    on its labelled parts, and writes a report and vectors. About ten minutes on two cores; run the same command
    again to resume.
    Exit code: 0 when everything is done, 2 for an error.

    Args:
        output: the folder for everything it writes
        seed: random seed of sounds, weights, masks and crops
        epochs: epochs of pre-training; the default fits ten minutes on two cores with everything else
        clips: unlabelled clips to pre-train on
        labelled: labelled training clips of each task; validation has a third of it, test two thirds
    """
    from matpac.quickstart.steps import QuickstartOptions, run_steps

    run_steps(QuickstartOptions(output, seed, epochs, clips, labelled))
    return 0
