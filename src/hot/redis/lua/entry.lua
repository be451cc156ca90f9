-- One topic: its parts, its entries, and how an entry moves from one place to another.
--
-- All keys of a topic begin with the same base, whose hash tag keeps them on one server:
--   i  hash  id -> the item, as it was accepted          s  hash  id -> its state, see FORMAT
--   r  zset  ready, by order key                         d  zset  scheduled, by due time
--   dk zset  scheduled, by order key                     l  zset  leased, by the lease's end
--   h  zset  held, by when the hold is given up          D  zset  dead letters, by order key
--   x  zset  waiting, by when the time to live passes    er ed eD  what may be evicted of r, d and D
--   n:<node>  zset  entries the shard lacks, by position in that node's log
--   dn:<node> zset  deletes the shard lacks              dl hash  id -> whose log has the delete
--   dw:<node> set   deletes that wait for the end of that node's checkpoint, and dw, a hash of all: id -> node
--   pu:<node> zset  purges the shard lacks               st zset  leases settled lately
--   a:<node>  zset  frames of that node admitted after the position in m, field w:<node>; field tv:<node>: its
--             last take or hold that was given back; field cn:<node>: its process and the connection of its last call
--   k  hash  idempotency keys                            kx zset  the same, by expiry
--   kn:<node> zset  keys the shard lacks                 kr set   keys reserved
--   tb set   deleted while the shard was read            so:<node> who stores what that node left
--   tk:<node> hash  takes that the node has not heard of yet: ticket -> id and generation of each; and holds: ticket ->
--             'H', id and end of each
--   m  hash  everything else, see META, and o:<node> for every node that ever called
local call, pack, byte, sub = redis.call, struct.pack, string.byte, string.sub
local unpack = unpack

-- priority, lease_ms, max_attempts, bytes, expires_at; due, generation, attempt, lease's end,
-- when it was handed out, dead;
-- place, deadline; need and its node, the same counted from the flush under way; flushing, maybe stored; who holds;
-- who it waits for: the consumer that has it, or the hook that sent it back.
-- Behind it the last error and the death, which only clients read. -1 stands for no instant.
local FORMAT = '>i4I4I4I4i8i8I4I4i8i8I1I1i8I8I2I8I2I1I1I2I1c0'
local READY, SCHEDULED, LEASED, DEAD, HELD = 1, 2, 3, 4, 5
-- A node that dies gives up what it holds, and what it had not decided on, after so long.
local HOLD_MS = 60000
-- A lease that is being settled goes on after so long: whoever holds it may never have heard that he does. Nobody is
-- told that it is settled before it is.
local SETTLE_MS = 15000
-- The deadline of what is held by a taker that has not decided yet: nobody knows of a lease.
local UNDECIDED = -2
-- Entries moved in one go, so that no call keeps the server from others for long.
local STEP, STEPS_MAX = 1000, 10
-- A reply ends with the item that fills so many bytes, for the same reason.
local REPLY_BYTES = 4194304
-- Redis refuses calls of more arguments than its Lua stack holds.
local ARGUMENTS_MAX = 4000
local LAST_ID = string.rep('\255', 8)
local FIRST_ID = string.rep('\0', 8)
local FIRST_KEY = string.rep('\0', 20)

-- in: which memory of Redis it is in, see main.lua; by: bytes; le: leases ended unseen; pa: paused; cd, cl, cx: cold
-- items due, later, dead; fl: floor; wt, wi: watermark; nd: when the next cold one is due; nw: newest id that went cold;
-- rf, ru: who reads cold items, until when at most; pl, px: last id of purges of live and dead items that the shard may
-- not have heard of, pln, pxn: how many those are; ku: the shard may know more keys until then; sq: counter.
local META = {
    'in', 'by', 'le', 'pa', 'cd', 'cl', 'cx', 'fl', 'wt', 'wi', 'nd', 'nw', 'rf', 'ru', 'pl', 'pln', 'px', 'pxn', 'ku', 'sq',
}

-- Strings of one length, byte by byte: Lua's own order depends on the server's locale.
local function before(a, b)
    if a == b then return false end
    for at = 1, #a do
        local x, y = byte(a, at), byte(b, at)
        if x ~= y then return x < y end
    end
    return false
end

local function rest(list, from, to)
    local some = {}
    for at = from, to or #list do some[at - from + 1] = list[at] end
    return some
end

local function number(T, name) return tonumber(T.m[name] or 0) end

local function put(T, name, value)
    T.m[name] = value
    T.changed[name] = true
end

local function count(T, name, by) put(T, name, math.max(0, number(T, name) + by)) end

local function variadic(command, key, list)
    for from = 1, #list, ARGUMENTS_MAX do
        call(command, key, unpack(list, from, math.min(from + ARGUMENTS_MAX - 1, #list)))
    end
end

-- A topic's keys, and those of it that every node has.
local KEYS = {'i', 's', 'r', 'd', 'dk', 'l', 'h', 'D', 'x', 'er', 'ed', 'eD', 'dl', 'dw', 'st', 'k', 'kx', 'kr', 'tb', 'm'}
local NODE_KEYS = {'n:', 'dn:', 'dw:', 'pu:', 'a:', 'kn:', 'so:', 'tk:'}

-- Drops what an older memory has of a topic.
local function drop_leftovers(T)
    local keys = {}
    for _, name in ipairs(KEYS) do keys[#keys + 1] = T.base .. name end
    for _, field in ipairs(call('HKEYS', T.base .. 'm')) do
        local node = string.match(field, '^o:(%d+)$')
        for _, name in ipairs(node and NODE_KEYS or {}) do keys[#keys + 1] = T.base .. name .. node end
    end
    variadic('UNLINK', keys[1], keys)
end

-- Redis' own clock, in microseconds.
local function redis_us()
    local time = call('TIME')
    return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Redis' own clock, in milliseconds, and the caller's. Leases, holds and reservations run on the first, so that nodes
-- whose clocks differ, or are set, cut none short; when items are due and when they and keys expire is by the second,
-- which said so. After a '=' a clock stands still, and both are that one.
local function clocks(told)
    if sub(told, 1, 1) == '=' then
        local now = tonumber(sub(told, 2))
        return now, now
    end
    return math.floor(redis_us() / 1000), tonumber(told)
end

local function open_topic(keys, args)
    local T = {
        base = keys[2], instance = args[2], node = args[3], channel = args[5],
        m = {}, changed = {}, adds = {}, rems = {}, states = {}, gone = {},
    }
    T.now, T.wall = clocks(args[4])
    local memory, called, line = sub(args[1], 2, 17), 'o:' .. T.node, 'cn:' .. T.node
    local values = call('HMGET', T.base .. 'm', called, line, unpack(META))
    local remembers, mine, last = values[3] == memory, T.instance .. pack('>I8', tonumber(args[7])), values[2]
    -- A call that the node gave up with its connection, and that comes after others of the same process.
    if remembers and last and sub(last, 1, 8) == T.instance and before(mine, last) then return nil end
    if remembers then
        for at, name in ipairs(META) do T.m[name] = values[at + 2] end
    else
        drop_leftovers(T)
        put(T, 'in', memory)
    end
    if not remembers or not values[1] then put(T, called, 1) end
    if not remembers or last ~= mine then put(T, line, mine) end
    return T
end

-- Whether what `kind` says of the frame at `lsn`, a text, of this node's log was applied before; notes that it is.
local function is_applied(T, kind, lsn)
    local applied = T.base .. 'a:' .. T.node
    local whole = tonumber(call('HGET', T.base .. 'm', 'w:' .. T.node) or 0)
    if tonumber(lsn) <= whole or call('ZSCORE', applied, kind .. lsn) then return true end
    call('ZADD', applied, lsn, kind .. lsn)
    return false
end

local function add(T, set, score, member)
    local list = T.adds[set]
    if not list then list = {}; T.adds[set] = list end
    list[#list + 1] = score
    list[#list + 1] = member
end

local function rem(T, set, member)
    local list = T.rems[set]
    if not list then list = {}; T.rems[set] = list end
    list[#list + 1] = member
end

-- Writes what was gathered: an entry moves at most once between two calls of this.
local function flush(T)
    for set, list in pairs(T.rems) do variadic('ZREM', T.base .. set, list) end
    for set, list in pairs(T.adds) do variadic('ZADD', T.base .. set, list) end
    if #T.states > 0 then variadic('HSET', T.base .. 's', T.states) end
    if #T.gone > 0 then
        variadic('HDEL', T.base .. 's', T.gone)
        variadic('HDEL', T.base .. 'i', T.gone)
    end
    T.rems, T.adds, T.states, T.gone = {}, {}, {}, {}
end

local function close_topic(T)
    flush(T)
    local set, del = {}, {}
    for name in pairs(T.changed) do
        if T.m[name] then
            set[#set + 1] = name
            set[#set + 1] = T.m[name]
        else
            del[#del + 1] = name
        end
    end
    if #set > 0 then call('HSET', T.base .. 'm', unpack(set)) end
    if #del > 0 then call('HDEL', T.base .. 'm', unpack(del)) end
end

-- Says to every node that the topic may have something new to take.
local function wake(T) call('PUBLISH', T.channel, T.instance .. T.base) end

local function read(raw)
    local e, fixed_end = {}, nil
    e.priority, e.lease_ms, e.max_attempts, e.bytes, e.expires, e.due, e.generation, e.attempt, e.lease_end, e.leased, e.dead,
        e.place, e.deadline, e.need, e.need_node, e.after, e.after_node, e.flushing, e.stored, e.holder, e.by,
        fixed_end = struct.unpack(FORMAT, raw)
    e.tail = sub(raw, fixed_end)
    return e
end

local function write(e)
    return pack(FORMAT, e.priority, e.lease_ms, e.max_attempts, e.bytes, e.expires, e.due, e.generation, e.attempt,
        e.lease_end, e.leased, e.dead, e.place, e.deadline, e.need, e.need_node, e.after, e.after_node, e.flushing, e.stored, e.holder,
        #e.by, e.by) .. e.tail
end

-- An item's bytes, at their place in FORMAT.
local function bytes_of(state) return (struct.unpack('>I4', state, 13)) end

-- Bytes that sort as the delivery order does.
local function order(e, id) return pack('>I4I8', e.priority + 2147483648, e.due) .. id end

-- The values of many fields, as one list.
local function fields(key, ids)
    local all = {}
    for from = 1, #ids, ARGUMENTS_MAX do
        local some = call('HMGET', key, unpack(ids, from, math.min(from + ARGUMENTS_MAX - 1, #ids)))
        for at = 1, #some do all[from + at - 1] = some[at] end
    end
    return all
end

local function entries(T, ids)
    local all = fields(T.base .. 's', ids)
    for at = 1, #ids do all[at] = all[at] and read(all[at]) end
    return all
end

-- The states of `ids` from the first on, as many as fill `bytes`.
local function states_within(T, ids, bytes)
    local states, some, filled = fields(T.base .. 's', ids), {}, 0
    for at = 1, #ids do
        if filled >= bytes then break end
        some[at] = states[at]
        if states[at] then filled = filled + bytes_of(states[at]) end
    end
    return some
end

-- The same, read.
local function entries_within(T, ids, bytes)
    local some = states_within(T, ids, bytes)
    for at, state in ipairs(some) do some[at] = state and read(state) end
    return some
end

local function entry(T, id)
    local raw = call('HGET', T.base .. 's', id)
    return raw and read(raw)
end

local function is_clean(e) return e.stored == 1 and e.need == 0 and e.flushing == 0 end
local function may_be_stored(e) return e.stored == 1 or e.flushing == 1 end
local function waits(e) return e.place == READY or e.place == SCHEDULED end

local function offer(T, id, e)
    if not is_clean(e) then return end
    if e.place == READY then add(T, 'er', 0, order(e, id))
    elseif e.place == SCHEDULED then add(T, 'ed', e.due, id)
    elseif e.place == DEAD then add(T, 'eD', 0, id) end
end

local function withdraw(T, id, e)
    if not is_clean(e) then return end
    if e.place == READY then rem(T, 'er', order(e, id))
    elseif e.place == SCHEDULED then rem(T, 'ed', id)
    elseif e.place == DEAD then rem(T, 'eD', id) end
end

local function save(T, id, e)
    T.states[#T.states + 1] = id
    T.states[#T.states + 1] = write(e)
end

-- When a hold that begins now is given up.
local function hold_end(T, e) return T.now + (e.deadline >= 0 and SETTLE_MS or HOLD_MS) end

-- Files an entry under its place.
local function enter(T, id, e)
    local place = e.place
    if place == READY then
        add(T, 'r', 0, order(e, id))
    elseif place == SCHEDULED then
        add(T, 'd', e.due, id)
        add(T, 'dk', 0, order(e, id))
    elseif place == LEASED then add(T, 'l', e.deadline, id)
    elseif place == DEAD then add(T, 'D', 0, order(e, id))
    else
        add(T, 'h', hold_end(T, e), id)
        e.holder = tonumber(T.node)
    end
    if waits(e) and e.expires >= 0 then add(T, 'x', e.expires, id) end
    if waits(e) or place == DEAD then e.by = '' end
    offer(T, id, e)
    save(T, id, e)
end

-- Takes an entry out of its place.
local function leave(T, id, e)
    local place = e.place
    if place == READY then
        rem(T, 'r', order(e, id))
    elseif place == SCHEDULED then
        rem(T, 'd', id)
        rem(T, 'dk', order(e, id))
    elseif place == LEASED then rem(T, 'l', id)
    elseif place == DEAD then rem(T, 'D', order(e, id))
    else rem(T, 'h', id) end
    if waits(e) and e.expires >= 0 then rem(T, 'x', id) end
    withdraw(T, id, e)
end

local function move(T, id, e, place, deadline)
    leave(T, id, e)
    e.place, e.deadline = place, deadline or -1
    enter(T, id, e)
end

-- Where an entry belongs by its standing.
local function settle_place(T, e)
    e.deadline = -1
    if e.dead == 1 then e.place = DEAD
    elseif e.lease_end >= 0 and e.lease_end > T.now then e.place, e.deadline = LEASED, e.lease_end
    -- The last lease ended unseen, or its end could not be logged: it is still to be seen.
    elseif e.lease_end >= 0 and e.attempt >= e.max_attempts then e.place, e.deadline = LEASED, T.now
    elseif e.due > T.wall then e.place = SCHEDULED
    else e.place = READY end
end

-- Removes an entry that was read and not moved since.
local function remove(T, id, e)
    leave(T, id, e)
    if e.need > 0 then rem(T, 'n:' .. e.need_node, id) end
    T.gone[#T.gone + 1] = id
    count(T, 'by', -e.bytes)
end

-- Notes that a log knows something about an entry that the shard may not; to be saved by the caller.
local function mark(T, id, e, lsn)
    if e.flushing == 1 then
        if e.after == 0 then e.after, e.after_node = lsn, tonumber(T.node) end
    elseif e.need == 0 then
        e.need, e.need_node = lsn, tonumber(T.node)
        add(T, 'n:' .. T.node, lsn, id)
    end
end

local function first_score(T, set)
    local head = call('ZRANGE', T.base .. set, 0, 0, 'WITHSCORES')
    return head[2] and tonumber(head[2])
end

local function least(a, b)
    if not a then return b end
    return b and math.min(a, b) or a
end
