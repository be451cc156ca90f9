-- How cold items come up, and looking without taking.

-- A reader that dies gives the topic up after so long.
local REFILL_MS = 30000
local NOT_MINE = {'X'}

local function is_reader(T, token) return T.m.rf == token and number(T, 'ru') > T.now end

-- due, later, dead, fresh, when. What the shard counted then; a topic that is not fresh is only looked through again.
function operations.set_stored(T, a)
    local due, later, counted = tonumber(a[1]), tonumber(a[2]), tonumber(a[5])
    if a[4] == '1' then
        put(T, 'cd', due)
        put(T, 'cl', later)
        put(T, 'cx', tonumber(a[3]))
        put(T, 'wt', counted)
        put(T, 'wi', LAST_ID)
        put(T, 'fl', due > 0 and FIRST_KEY)
        put(T, 'nd', later > 0 and counted)
        for _, name in ipairs({'nw', 'rf', 'ru', 'pl', 'pln', 'px', 'pxn'}) do put(T, name, false) end
    else
        put(T, 'fl', FIRST_KEY)
        put(T, 'nd', 0)
    end
    return {}
end

-- token.
function operations.refill_begin(T, a)
    if is_refilling(T) and T.m.rf ~= a[1] then return {'B'} end
    if not T.m.rf then call('DEL', T.base .. 'tb') end
    put(T, 'rf', a[1])
    put(T, 'ru', T.now + REFILL_MS)
    if T.m.nd and number(T, 'nd') <= T.wall then
        return {'L', number(T, 'wt'), T.m.wi or FIRST_ID, T.wall}
    end
    return {'N'}
end

-- token or '', then id, state, item of each.
function operations.adopt(T, a)
    if a[1] ~= '' and not is_reader(T, a[1]) then return NOT_MINE end
    adopt(T, a, 2)
    wake(T)
    return {}
end

-- token, passed due, passed id, next due or -1, then id, state, item of each.
function operations.refill_due(T, a)
    if not is_reader(T, a[1]) then return NOT_MINE end
    adopt(T, a, 5)
    raise_watermark(T, tonumber(a[2]), a[3])
    local next_due = tonumber(a[4])
    put(T, 'nd', next_due >= 0 and next_due)
    if next_due < 0 then put(T, 'cl', 0) end
    put(T, 'ru', T.now + REFILL_MS)
    return {}
end

-- Where to read on: the floor, and the instant by which items are due.
function operations.refill_page(T) return {T.m.fl or '', number(T, 'wt')} end

-- token, then '' when no page was read, else: whole, the key behind the last one or '', and id, state, item
-- of each.
function operations.refill_end(T, a)
    if not is_reader(T, a[1]) then return NOT_MINE end
    if a[2] ~= '' then
        adopt(T, a, 4)
        if a[2] == '1' then
            put(T, 'fl', false)
            put(T, 'cd', 0)
        elseif a[3] ~= '' then
            put(T, 'fl', a[3])
        end
    end
    put(T, 'rf', false)
    put(T, 'ru', false)
    call('DEL', T.base .. 'tb')
    settle_purges(T)
    if a[2] ~= '' then evict_dead(T) end
    wake(T)
    return {}
end

-- id and dead of each. Replies 1 for what is only in the shard.
function operations.only_cold(T, a)
    local reply = {}
    for at = 1, #a, 2 do
        local id = a[at]
        local known = call('HEXISTS', T.base .. 's', id) == 1 or call('HEXISTS', T.base .. 'dl', id) == 1
        reply[#reply + 1] = (known or is_gone(T, id, a[at + 1] == '1')) and 0 or 1
    end
    return {reply}
end

-- id, state, item of each, as many as fill `bytes`; and 1 when that is not all.
local function shown(T, ids, bytes)
    local states, reply = states_within(T, ids, bytes), {}
    local items = fields(T.base .. 'i', rest(ids, 1, #states))
    for at, state in ipairs(states) do
        if state then
            reply[#reply + 1] = ids[at]
            reply[#reply + 1] = state
            reply[#reply + 1] = items[at]
        end
    end
    return {reply, #states < #ids and 1 or 0}
end

-- id.
function operations.find(T, a) return shown(T, a, REPLY_BYTES) end

-- set of keys in order, from, limit; replies as `shown`.
function operations.browse(T, a)
    local keys, ids = call('ZRANGEBYLEX', T.base .. a[1], '[' .. a[2], '+', 'LIMIT', 0, a[3]), {}
    for at, key in ipairs(keys) do ids[at] = sub(key, 13) end
    return shown(T, ids, REPLY_BYTES)
end

-- from, limit. Leased and held items wait in the order of time: a page in key order takes a pass over all.
function operations.browse_leased(T, a)
    local from, limit, keys = a[1], tonumber(a[2]), {}
    for _, set in ipairs({'l', 'h'}) do
        local ids = call('ZRANGE', T.base .. set, 0, -1)
        for at, e in ipairs(entries(T, ids)) do
            local key = order(e, ids[at])
            if not before(key, from) then keys[#keys + 1] = key end
        end
    end
    table.sort(keys, before)
    local ids = {}
    for at = 1, math.min(limit, #keys) do ids[at] = sub(keys[at], 13) end
    return shown(T, ids, REPLY_BYTES)
end

-- set of keys in order, or none for leased and held items; limit; how many bytes are enough. Of each priority only the
-- last keys are looked at, and of so many priorities at most: a call must not keep the server from others for long.
function operations.newest(T, a)
    local set, limit, ids = a[1], tonumber(a[2]), {}
    if set == '' then
        for _, waiting in ipairs({'l', 'h'}) do
            for _, id in ipairs(call('ZRANGE', T.base .. waiting, 0, -1)) do ids[#ids + 1] = id end
        end
    end
    local last, priorities = '+', 0
    while set ~= '' and priorities < STEP do
        local keys = call('ZREVRANGEBYLEX', T.base .. set, last, '-', 'LIMIT', 0, limit)
        if #keys == 0 then break end
        local priority = sub(keys[1], 1, 4)
        for _, key in ipairs(keys) do
            if sub(key, 1, 4) == priority then ids[#ids + 1] = sub(key, 13) end
        end
        last, priorities = '(' .. priority, priorities + 1
    end
    table.sort(ids, function(one, other) return before(other, one) end)
    return shown(T, rest(ids, 1, math.min(limit, #ids)), tonumber(a[3]))
end

function operations.look() return {} end
