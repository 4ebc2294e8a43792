"""Which endpoint gets which share of the new flows.

maglev, picks, shares   weights, and the tables that the kernel picks from
classes     video's own weights                planner      effective weights, and why
forecast    traffic to come                    simulation   what other policies would have done
discovery   endpoints by DNS name              probes       whether an endpoint serves
"""
