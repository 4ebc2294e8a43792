"""cdnctl spreads an edge box's traffic over several CDNs, in the kernel, and shows it in a terminal.

One XDP program (bpf/) decides every packet: blocked or not, which CDN, rewritten and sent. It goes on
deciding when every process here is gone. The packages load it, tell it what is wanted, and show what
it does. Imports point downwards only; `make lint` checks that:

    cli                             the commands; starts without Textual and BCC
    console    lab                  the terminal app | an edge, clients and CDNs in namespaces
    agent                           serves an engine on Unix sockets; its clients
    engine                          joins what is below: frames out, commands in, the journal
    steering  defence  datapath     pick tables | blocks, protected prefixes, talkers | BCC and netlink
    config    state                 what the operator's file says | what operators changed at run time
    model     paths                 frames, commands, outcomes (pure data) | where files are

- The console knows only the model, the agent's client and the paths, so that it can never be in the
  way of the edge: losing it loses a window.
- Only `datapath` imports BCC; compiling happens in a short-lived child.
- Only `cli` imports `lab`: a scenario's steps reach the console as events, as anything else does.
- A `Frame` (cdnctl.model) goes up the stack every half second, a `Command` comes down, an `Outcome`
  answers it.
"""

__version__ = "0.1.0"
