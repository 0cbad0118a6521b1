"""The torch modules that training fits and GPU serving runs, by name: `vagus.networks`.

A network is made as `factory(shapes, n_labels, **args)`: `shapes` is {input: shape of a row},
`(features,)` or `(time, *item)`, from the bundle's inputs; `args` is the bundle's network.args.
It is called as `network(inputs, valid) -> logits`: {input: (batch, ...)} float32 and
{input: (batch, time)} bool, to (batch, labels). It holds its own normalisation as buffers.

What it may offer beside: `settle(inputs, valid)` sets its scales (and what padding is filled with)
from the whole training part, once, before the first step. `encode(frames)` and `read(embeddings,
valid)` part a network that reads pictures one by one; its forward is the one after the other.
`extra_loss` is to be added to the loss of the last forward in training, where it is not None.
Weights begin where torch.manual_seed puts them. In training a batch has two rows or more.
"""
