"""Attacks, as edges meet them: eight kinds, each with its generator, its play and its claims.

    kinds       what there is: names, where they come from, how fast, what the edge serves meanwhile
    frames      what a packet of a flood looks like, and what varies from one to the next
    generator   (C) writes them: live frames of BPF_PROG_TEST_RUN, the fastest way out of a process
    live        sends those at a steady rate, from one processor
    crowd       real connections of real stacks, from many sources, that ask for nothing or ever so slowly
    assault     calm, the attack, and what was seen of it
    claims      what that amounts to

Floods leave by the clients' side of the edge's cable, past every wire. All of them are bounded in count and
time. `live` and `crowd` are programs of their own, as the lab's other generators are: see there.
"""
