"""What policies would do with traffic that was, or might be.

A policy hears after each step what an edge would know, and says how the next step is shared out; load then
makes CDNs slower and fuller, which it hears of in turn.

    course     traffic and CDNs, step by step       play      a course under a policy, with its score
    policies   static weights, lowest latency wins, plain failover, the planner
    days       courses made up from a seed          recorded  courses from frames
"""
