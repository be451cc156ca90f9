-- A topic's idempotency keys. A reserved one is kept as 'R', the instant at which the reservation is void, the node it is
-- for, and the token of the request; a used one as body hash, id, expiry, and the position and node whose log has it, 0
-- when the shard has.

local ROW = '>I8I2'
-- How many stored keys one topic keeps; older ones are asked from the shard.
local KEYS_KEPT = 100000
-- A node that dies gives its reservations up after so long.
local RESERVE_MS = 60000

local function is_reserved(row) return #row == 19 end
local function expires_of(row) return (struct.unpack('>i8', row, 17)) end
local function need_of(row) return struct.unpack(ROW, row, 25) end

local function use_key(T, hash, told_row, lsn)
    local expires = (struct.unpack('>i8', told_row, 17))
    call('HSET', T.base .. 'k', hash, told_row .. pack(ROW, lsn, tonumber(T.node)))
    call('ZADD', T.base .. 'kx', expires, hash)
    if lsn > 0 then call('ZADD', T.base .. 'kn:' .. T.node, lsn, hash) end
end

local function drop_key(T, hash, row)
    call('HDEL', T.base .. 'k', hash)
    if not is_reserved(row) then
        local lsn, node = need_of(row)
        if lsn > 0 then call('ZREM', T.base .. 'kn:' .. node, hash) end
    end
end

local function forget_keys(T)
    local hashes = call('ZRANGEBYSCORE', T.base .. 'kx', '-inf', T.wall, 'LIMIT', 0, STEP)
    for _, hash in ipairs(hashes) do
        call('ZREM', T.base .. 'kx', hash)
        local row = call('HGET', T.base .. 'k', hash)
        if row and not is_reserved(row) and expires_of(row) <= T.wall then drop_key(T, hash, row) end
    end
end

-- token, then hash of each. Replies 'R', 'B', or the row of each.
function operations.reserve_keys(T, a)
    forget_keys(T)
    local token, reply = a[1], {}
    for at, hash in ipairs(rest(a, 2)) do
        local row = call('HGET', T.base .. 'k', hash)
        if row and not is_reserved(row) and expires_of(row) > T.wall then
            reply[at] = row
        elseif row and is_reserved(row) and struct.unpack('>i8', row, 2) > T.now then
            reply[at] = 'B'
        else
            call('HSET', T.base .. 'k', hash, 'R' .. pack('>i8I2', T.now + RESERVE_MS, tonumber(T.node)) .. token)
            call('SADD', T.base .. 'kr', hash)
            reply[at] = 'R'
        end
    end
    return {reply}
end

-- lsn, then hash and row of each.
function operations.confirm_keys(T, a)
    for at = 2, #a, 2 do
        local row = call('HGET', T.base .. 'k', a[at])
        local known = row and not is_reserved(row) and expires_of(row) > T.wall
        if not known then use_key(T, a[at], a[at + 1], tonumber(a[1])) end
        call('SREM', T.base .. 'kr', a[at])
    end
    return {}
end

-- hash and row of each.
function operations.recall_keys(T, a)
    for at = 1, #a, 2 do
        if call('HEXISTS', T.base .. 'k', a[at]) == 0 then use_key(T, a[at], a[at + 1], 0) end
    end
    return {}
end

-- token of the only request whose reservations are meant, or '', then hashes.
function operations.release_keys(T, a)
    for _, hash in ipairs(rest(a, 2)) do
        local row = call('HGET', T.base .. 'k', hash)
        if row and is_reserved(row) and (a[1] == '' or sub(row, 12) == a[1]) then
            call('HDEL', T.base .. 'k', hash)
            call('SREM', T.base .. 'kr', hash)
        end
    end
    return {}
end

-- Until when the shard may know more keys, or -1.
function operations.cold_keys(T) return {T.m.ku and number(T, 'ku') or -1} end

function operations.set_cold_keys(T, a)
    put(T, 'ku', tonumber(a[1]))
    return {}
end

-- of, then hash and id of each key that the shard has.
function operations.end_keys(T, a)
    for at = 2, #a, 2 do
        local hash = a[at]
        local row = call('HGET', T.base .. 'k', hash)
        -- Meanwhile the key's window may have passed and another item may have been accepted under it.
        if row and not is_reserved(row) and sub(row, 9, 16) == a[at + 1] then
            call('HSET', T.base .. 'k', hash, sub(row, 1, 24) .. pack(ROW, 0, 0))
            call('ZREM', T.base .. 'kn:' .. a[1], hash)
        end
    end
    while call('HLEN', T.base .. 'k') > KEYS_KEPT do
        local oldest = call('ZRANGE', T.base .. 'kx', 0, 0, 'WITHSCORES')
        local row = oldest[1] and call('HGET', T.base .. 'k', oldest[1])
        if not oldest[1] or (row and (is_reserved(row) or need_of(row) > 0)) then break end
        call('ZREM', T.base .. 'kx', oldest[1])
        if row then
            call('HDEL', T.base .. 'k', oldest[1])
            put(T, 'ku', math.max(number(T, 'ku'), tonumber(oldest[2])))
        end
    end
    return {}
end

-- A node begins: what it held, reserved and read when it ended is given up. Nobody hears of its takes any more.
function operations.begin(T)
    local node = tonumber(T.node)
    call('DEL', T.base .. 'tk:' .. T.node)
    local ids = call('ZRANGE', T.base .. 'h', 0, -1)
    for at, e in ipairs(entries(T, ids)) do
        if e.holder == node then let_go(T, ids[at], e) end
    end
    flush(T)
    for _, hash in ipairs(call('SMEMBERS', T.base .. 'kr')) do
        local row = call('HGET', T.base .. 'k', hash)
        if row and is_reserved(row) and struct.unpack('>I2', row, 10) == node then
            call('HDEL', T.base .. 'k', hash)
            call('SREM', T.base .. 'kr', hash)
        end
    end
    if T.m.rf and struct.unpack('>I2', T.m.rf) == node then
        put(T, 'rf', false)
        put(T, 'ru', false)
        settle_purges(T)
    end
    return {}
end

local function lacks_keys(T)
    for _, hash in ipairs(call('ZRANGE', T.base .. 'kx', 0, -1)) do
        local row = call('HGET', T.base .. 'k', hash)
        if row and not is_reserved(row) and need_of(row) > 0 then return true end
    end
    return false
end

-- Forgets a topic in which nothing is left. What was admitted stays known: a log may be read back.
function operations.forget(T)
    local base = T.base
    local left = call('HLEN', base .. 's') + call('HLEN', base .. 'dl') + number(T, 'cd') + number(T, 'cl') + number(T, 'cx')
    if left > 0 or T.m.fl or T.m.nd or is_unsettled(T) or lacks_keys(T) then return {0} end
    for _, name in ipairs({'i', 's', 'k', 'kx', 'kr', 'st', 'tb'}) do call('DEL', base .. name) end
    put(T, 'pa', false)
    put(T, 'ku', false)
    return {1}
end
