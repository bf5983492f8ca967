# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from edgegen.algorithms.nets.diffusion import reverse_chain, step_embedding, vp_schedule


def test_schedule_constants_for_five_steps():
    schedule = vp_schedule(5)
    assert [round(b, 4) for b in schedule.beta] == [0.1959, 0.4588, 0.6358, 0.7549, 0.8350]
    assert [round(a, 5) for a in schedule.alpha_bar] == [0.80413, 0.43518, 0.15850, 0.03885, 0.00641]
    assert [round(v, 4) for v in schedule.posterior_variance] == [0.0, 0.1591, 0.4267, 0.6609, 0.8078]


@pytest.mark.parametrize("steps", [1, 2, 5, 7, 15])
def test_schedule_closed_form_end_does_not_depend_on_the_number_of_steps(steps):
    # ln ᾱ_I = Σ −β_min/I − (2i−1)/(2I²)(β_max − β_min) = −(β_min + β_max)/2, because Σ (2i−1) = I².
    schedule = vp_schedule(steps)
    assert schedule.alpha_bar[-1] == pytest.approx(math.exp(-(0.1 + 10) / 2), rel=1e-9)
    assert schedule.gain == pytest.approx(12.49, abs=0.005)
    assert schedule.posterior_variance[0] == 0


def test_unrolled_chain_gains_on_latent_and_noise_estimates():
    schedule = vp_schedule(5)
    latent = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert reverse_chain(lambda x, i: torch.zeros_like(x), latent, schedule, None)[0, 0] == pytest.approx(
        12.49, abs=5e-3
    )
    expected = {1: 0.494, 2: 0.925, 3: 1.741, 4: 3.906, 5: 10.464}
    for step, gain in expected.items():

        def noise(x: torch.Tensor, i: int, step: int = step) -> torch.Tensor:
            return torch.ones_like(x) * (i == step)

        only = reverse_chain(noise, torch.zeros_like(latent), schedule, None)
        assert -only[0, 0] == pytest.approx(gain, abs=1e-3)


@pytest.mark.parametrize(("steps", "std"), [(3, 2.98), (5, 5.11), (7, 6.54), (10, 7.90)])
def test_chain_noise_has_the_published_spread(steps, std):
    noise = torch.randn(steps - 1, 200_000, 1, generator=torch.Generator().manual_seed(0))
    end = reverse_chain(lambda x, i: torch.zeros_like(x), torch.zeros(200_000, 1), vp_schedule(steps), noise)
    assert end.std().item() == pytest.approx(std, rel=0.01)


def test_gradients_flow_through_every_step():
    scale = torch.ones(5, requires_grad=True)
    end = reverse_chain(lambda x, i: scale[i - 1] * torch.ones_like(x), torch.zeros(3), vp_schedule(5), None)
    (gradient,) = torch.autograd.grad(end.sum(), scale)
    assert (gradient < 0).all()


def test_step_embedding_is_sine_then_cosine():
    embedding = step_embedding(3, 16)
    assert embedding.shape == (3, 16)
    assert torch.equal(embedding[0], torch.tensor([0.0] * 8 + [1.0] * 8))
    assert embedding[2, 1].item() == pytest.approx(math.sin(2 * 10_000 ** (-1 / 7)), rel=1e-5)


@pytest.mark.parametrize("arguments", [(0,), (5, 0.0), (5, 2.0, 1.0)])
def test_impossible_schedules_are_refused(arguments):
    with pytest.raises(ValueError, match=r"step|beta"):
        vp_schedule(*arguments)


def test_a_clip_that_never_binds_changes_nothing_and_one_that_does_bounds_the_end():
    schedule = vp_schedule(5)
    generator = torch.Generator().manual_seed(1)
    latent, noise = torch.randn(50, 3, generator=generator), torch.randn(4, 50, 3, generator=generator)

    def estimate(x, i):
        return torch.tanh(x * i)

    free = reverse_chain(estimate, latent.double(), schedule, noise.double())
    loose = reverse_chain(estimate, latent.double(), schedule, noise.double(), clip=1e6)
    assert torch.allclose(free, loose, atol=1e-9)
    # At the last step the mean is the clipped estimate itself: the weight of x_1 is 1 − ᾱ_0 = 0.
    tight = reverse_chain(estimate, latent, schedule, noise, clip=1.0)
    assert tight.abs().max() <= 1 + 1e-6
    assert free.abs().max() > 1
