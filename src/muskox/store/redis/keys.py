"""The names of the keys, as Python needs them; `lua/base.lua` makes all of them from the same prefix.

One hash tag holds a store together, made of its prefix: every key begins with
`{prefix}:`, so that all of them are in one slot of a cluster, and a step that
concerns several queues is still one step. A queue's name has no colon, an id or a job name
comes last, so no two things share a key.

    {p}:meta             hash    figures (stamp, clock, next event, turn of the aged), layout, whether there are limits
                                 or keys, and by how much the clock was set back
    {p}:queues           zset    queues in the order of their making
    {p}:paused           set     queues from which nothing is claimed
    {p}:idle             hash    queues (and "!" for events) in which somebody waits for a hint
    {p}:hints            channel the queue in which a job began to wait, or "!"
    {p}:events           stream  ids: offset of a record's last fact - number of its facts
    {p}:workers, :beats  hash, zset   records of workers, and when they last beat
    {p}:tickets:WORKER   hash    the last claims of a worker; with a time to live
    {p}:jobs:Q           hash    id → record
    {p}:counts:Q         hash    number of a state and job name → how many
    {p}:open:Q           zset    lines that have something: priority:name by priority
    {p}:line:Q:P:NAME    list    stamp and id of waiting jobs
    {p}:early:Q:P:NAME   zset    the same of those that became due, by the moment they were
    {p}:delayed:Q        zset    ids by due
    {p}:active:Q         zset    claims, by their first fence, by the end of the lease
    {p}:claims:Q, :left:Q  hash  first fence of a claim → ids in the order of their fences; → how many it still concerns
    {p}:leases:Q         zset    fence and id of those whose lease was renewed, by its end
    {p}:completed:Q …    zset    ids by end; failed, cancelled; own-… for those with a time of their own
    {p}:until:Q          zset    ids of the latter by the moment they are cleared
    {p}:log:Q:ID         list    moment and text
    {p}:blocked:Q        zset    ids of blocked jobs by when they were added
    {p}:limits           hash    of queues: Q → what holds, Q:active, Q:bucket, Q:walk; see lua/buckets.lua
    {p}:keys:Q           hash    key → how it stands; see lua/keyed.lua
    {p}:key-names:Q      zset    its keys, in order
    {p}:key-line:Q:KEY   zset    stamp and id of the blocked jobs of a key, by priority
    {p}:key-times:Q      zset    keys by the moment from which more of their jobs may stand in line
    {p}:key-idle:Q       zset    keys without jobs by the moment from which nothing of them is to be kept
    {p}:dedup:Q          hash    dedup key → the job that had it last, and for how long
    {p}:dedup-look:Q     zset    the keys by when clear looks at them
    {p}:expires:Q        zset    ids of jobs that have to be begun in time, by when that is over
    {p}:later:Q          hash    id → what is to be added when that job has ended
    {p}:flows            hash    id → record of a flow or batch
    {p}:flow-list, :flow-unended  zset  ids by a stamp of when they were made: all; those that have not ended
    {p}:flow-over        zset    ids of ended ones of which no job is left, by their end
    {p}:flow-jobs:FLOW   list    moment and queue:id of its jobs, in the order of adding
    {p}:followers        hash    1 or 2 and id of a flow → the job that follows it
    {p}:nodes:FLOW       hash    who waits for whom, and how parents ended
    {p}:schedules        hash    name → schedule
    {p}:schedule-names   zset    their names in order
    {p}:due              zset    names of those that are not paused by the next moment
    {p}:sampled          hash    queue → how many jobs were ever added when the latest sample was taken, and "" → when
    {p}:history:STEP:AT  hash    queue:name → what was counted in so many seconds from then on; with a time to live
    {p}:ledger:NAME      list    what became of the latest moments
"""

from __future__ import annotations

from muskox.store.redis.ids import short

__all__ = ["Keys"]


class Keys:
    """The keys of one store."""

    def __init__(self, prefix: str) -> None:
        self.tag = f"{{{prefix}}}:"
        self.meta = f"{self.tag}meta".encode()
        self.hints = f"{self.tag}hints".encode()

    def jobs(self, queue: str) -> bytes:
        return f"{self.tag}jobs:{queue}".encode()

    def log(self, queue: str, id: str) -> bytes:
        return f"{self.tag}log:{queue}:".encode() + short(id)

    def ledger(self, name: str) -> bytes:
        return f"{self.tag}ledger:{name}".encode()
