"""GRPO on four answers, every number printed: `python docs/examples/grpo_by_hand.py`, a few seconds.

A question, four sampled answers, a reward for each answer (section 4.1.2) or for each step (4.1.3); then the objective's gradient, which is
the paper's gradient coefficient (Eq. 21): the advantage, pulled towards the reference model.
"""

from __future__ import annotations

import torch

from mathquarry.models.rl.advantages import outcome_advantages, process_advantages
from mathquarry.models.rl.objectives import grpo_token_loss

BETA = 0.04


def main() -> None:
    """Advantages of both kinds, then loss and gradient of one answer's tokens."""
    lengths = torch.tensor([4, 3, 5, 4])
    rewards = torch.tensor([0.9, 0.2, 0.1, 0.8])
    outcome = outcome_advantages(rewards, lengths, group_size=4)
    print("outcome rewards:", rewards.tolist())
    print("advantage of every token:", [round(float(row[0]), 3) for row in outcome])

    # Two steps per answer; a step's index is that of its last token. The third answer begins well and goes wrong.
    step_rewards = torch.tensor([[0.9, 0.9], [0.3, 0.2], [0.9, 0.1], [0.7, 0.8]])
    step_ends = torch.tensor([[1, 3], [1, 2], [2, 4], [1, 3]])
    process = process_advantages(step_rewards, step_ends, lengths, group_size=4)
    print("\nrewards of steps -> advantages of tokens:")
    for scores, row, length in zip(step_rewards, process, lengths.tolist(), strict=True):
        print("  ", [round(value, 2) for value in scores.tolist()], "->", [round(value, 3) for value in row[:length].tolist()])

    # On-policy: the ratio is 1, so the coefficient is A + beta (pi_ref / pi - 1).
    policy = torch.tensor([-0.5, -1.2, -0.3, -2.0], requires_grad=True)
    reference = torch.tensor([-0.6, -1.0, -0.3, -1.5])
    advantages = process[0, :4]
    loss = grpo_token_loss(policy, policy.detach(), reference, advantages, clip_low=0.2, clip_high=0.2, kl_coef=BETA)
    loss.sum().backward()
    coefficient = advantages + BETA * (torch.exp(reference - policy.detach()) - 1)
    assert policy.grad is not None
    torch.testing.assert_close(-policy.grad, coefficient)
    print("\ngradient coefficient of the first answer's tokens, by autograd and by Eq. 21:")
    print("  ", [round(value, 4) for value in (-policy.grad).tolist()])
    print("  ", [round(value, 4) for value in coefficient.tolist()])


if __name__ == "__main__":
    main()
