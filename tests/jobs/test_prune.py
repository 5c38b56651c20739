from ranp.jobs.prune import _loss_of


def test_the_loss_of_a_network_that_names_none() -> None:
    words = [_loss_of("unet3d", None), _loss_of("unet3d", "brats-15"), _loss_of("psm", None), _loss_of("a:Net", None)]
    assert words == ["ce", "ce-dice", "stereo", "ce"]
