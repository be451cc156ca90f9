-- What is known of the items that only the shard has. Live ones due by the watermark are counted in cd,
-- and none has a key below the floor; the others are counted in cl, and none is due before nd.

local function is_refilling(T) return T.m.rf and number(T, 'ru') > T.now end
local function is_unsettled(T) return is_refilling(T) or T.m.pl or T.m.px end

local function passed_watermark(T, due, id)
    local at = number(T, 'wt')
    return due < at or (due == at and not before(T.m.wi or FIRST_ID, id))
end

local function raise_watermark(T, due, id)
    if not passed_watermark(T, due, id) then
        put(T, 'wt', due)
        put(T, 'wi', id)
    end
end

local function cold_comes_first(T, head)
    if T.m.nd and number(T, 'nd') <= T.wall then return true end
    return T.m.fl and (not head or not before(head, T.m.fl))
end

-- Takes in an item that was evicted.
local function went_cold(T, id, e)
    if not T.m.nd or number(T, 'nd') > T.wall then
        -- Nothing cold became due since the watermark was set: it may move unread.
        raise_watermark(T, T.wall, LAST_ID)
    end
    if before(T.m.nw or FIRST_ID, id) then put(T, 'nw', id) end
    if passed_watermark(T, e.due, id) then
        count(T, 'cd', 1)
        local key = order(e, id)
        if not T.m.fl or before(key, T.m.fl) then put(T, 'fl', key) end
    else
        count(T, 'cl', 1)
        put(T, 'nd', least(T.m.nd and number(T, 'nd'), e.due))
    end
end

-- Takes out an item that becomes hot.
local function came_up(T, id, e)
    if e.dead == 1 then count(T, 'cx', -1)
    elseif passed_watermark(T, e.due, id) then count(T, 'cd', -1)
    else count(T, 'cl', -1) end
end

-- Whether an item that the shard showed is gone all the same.
local function is_gone(T, id, dead)
    local up_to = dead and T.m.px or T.m.pl
    if up_to and not before(up_to, id) then return true end
    return T.m.rf and call('SISMEMBER', T.base .. 'tb', id) == 1
end

-- A page that is being read may show what the shard held before a purge.
local function settle_purges(T)
    if is_refilling(T) then return end
    if T.m.pl and number(T, 'pln') == 0 then put(T, 'pl', false) end
    if T.m.px and number(T, 'pxn') == 0 then put(T, 'px', false) end
end

local function purge_cold(T, dead, up_to)
    local last, waiting = 'pl', 'pln'
    if dead then last, waiting = 'px', 'pxn' end
    if not T.m[last] or before(T.m[last], up_to) then put(T, last, up_to) end
    count(T, waiting, 1)
    if dead then
        local removed = number(T, 'cx')
        put(T, 'cx', 0)
        return removed
    end
    local removed = number(T, 'cd') + number(T, 'cl')
    put(T, 'cd', 0)
    put(T, 'cl', 0)
    if before(up_to, T.m.nw or FIRST_ID) then
        -- Something younger went cold already: the shard is looked through for it.
        put(T, 'fl', FIRST_KEY)
        put(T, 'nd', 0)
    else
        put(T, 'fl', false)
        put(T, 'nd', false)
    end
    return removed
end

local function adopt(T, list, from)
    for at = from, #list, 3 do
        local id, e = list[at], read(list[at + 1])
        local known = call('HEXISTS', T.base .. 's', id) == 1 or call('HEXISTS', T.base .. 'dl', id) == 1
        if not known and not is_gone(T, id, e.dead == 1) then
            came_up(T, id, e)
            e.need, e.flushing, e.stored = 0, 0, 1
            settle_place(T, e)
            count(T, 'by', e.bytes)
            call('HSET', T.base .. 'i', id, list[at + 2])
            enter(T, id, e)
            -- A row that was read twice is one item.
            flush(T)
        end
    end
end

local function evict_dead(T)
    local freed, ids = 0, call('ZRANGE', T.base .. 'eD', 0, STEP - 1)
    local found = entries(T, ids)
    for at, id in ipairs(ids) do
        local e = found[at]
        remove(T, id, e)
        count(T, 'cx', 1)
        freed = freed + e.bytes
    end
    flush(T)
    return freed
end
