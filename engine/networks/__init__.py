"""The torch modules that training fits and GPU serving runs, by name: `vagus.networks`.

A network is made as `factory(shapes, n_labels, **args)`: `shapes` is {input: shape of a row},
`(features,)` or `(time, *item)`, from the bundle's inputs; `args` is the bundle's network.args.
It is called as `network(inputs, valid) -> logits`: {input: (batch, ...)} float32 and
{input: (batch, time)} bool, to (batch, labels). It holds its own normalisation as buffers.
"""
