"""What honest clients notice of each attack, at the rate that the link itself stands.

How it measures:

- A lab's edge, clients at one rate in calm as under attack, whether they are answered or not; a generator
  that is pinned to one processor (see `cdnctl.lab.attacks`).
- First the rate, with the attack's own packets: a program that only drops what comes from the attackers, and
  hands the rest to the edge, takes the edge's place on the clients' link. 1 Mpps is aimed at; the highest
  rate at which it serves 99 % of new requests decides, since on few processors the generator itself starves
  clients.
- Then the attack for ten seconds at that rate, the shield beginning at calm and following the load by
  itself. Attacks of real connections have rates of their own.
- A row gates when fewer than 99 % of the honest requests on new connections are served, and another when not
  all connections are kept that were open before.

    dropping    the program that only drops      suite    the rows
"""

from tests.bench.attacks.suite import results

__all__ = ["results"]
