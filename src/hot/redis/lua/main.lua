-- One call: a topic's incarnation and base, then the incarnation expected, who asks, the time, where wake-ups go,
-- the operation, the number of the connection, and what the operation takes. Replies how the topic is now, then what the
-- operation replies.

local SERVER = call('INFO', 'server')

-- The process that Redis is: another one began with nothing, or with what was once written down or copied.
local PROCESS = string.match(SERVER, 'run_id:(%w+)') or 'unknown'

-- Counts what it did, so that whoever is told how a topic is knows which of two replies is the later one: calls that are
-- under way at once run in an order that only Redis knows. A library that was loaded anew goes on from a later instant.
local runs = tonumber(string.match(SERVER, 'server_time_usec:(%d+)') or 0)

-- Ready, scheduled, leased, dead, all with the cold ones; when the first ready one was due; leases ended;
-- bytes; when something is to be done, by the caller's clock; ready ones in memory; whether there is a floor; when the
-- next cold one is due; the cold ones; which run of the library says so; how far Redis' clock is ahead of the caller's.
local function numbers(T)
    local function size(set) return call('ZCARD', T.base .. set) end
    local ready, first = size('r'), call('ZRANGE', T.base .. 'r', 0, 0)[1]
    local due = first and (struct.unpack('>I8', first, 5)) or -1
    local at = least(least(next_event(T), first_score(T, 'x')), first_end(T, 'h'))
    return pack('>I8I8I8I8i8I8I8i8I8I1i8I8I8i8', ready + number(T, 'cd'), size('d') + number(T, 'cl'), size('l') + size('h'),
        size('D') + number(T, 'cx'), due, number(T, 'le'), number(T, 'by'), at or -1, ready, T.m.fl and 1 or 0,
        T.m.nd and number(T, 'nd') or -1, number(T, 'cd') + number(T, 'cl') + number(T, 'cx'), runs,
        T.now - T.wall)
end

local function is_of_this_process(incarnation) return sub(incarnation, -#PROCESS) == PROCESS end

local function run(keys, args)
    if not is_of_this_process(args[1]) or call('GET', keys[1]) ~= args[1] then return {'L'} end
    local T = open_topic(keys, args)
    if not T then return {'O'} end
    local reply = operations[args[6]](T, rest(args, 8))
    close_topic(T)
    runs = runs + 1
    return {'T', numbers(T), reply}
end

-- An incarnation is a text that vanishes with the memory: 'N', 16 digits and the process while nobody has said what is
-- cold, 'R' and the same from then on. One of another process is as good as none: what is there is older than what was
-- lost, and every topic drops it when it is opened.
--
-- 'claim', node, 16 digits: makes a missing one; replies whether it remembers the node's log, and the text.
-- 'ready', node, the text seen: replies what it is now.
-- 'known', node, the text seen: notes that the node's log was read back into it.
-- 'who', node: replies the text and the nodes whose logs were.
local function slots(keys, args)
    local now, known = call('GET', keys[1]), string.gsub(keys[1], 'inc$', 'who')
    if args[1] == 'claim' then
        if not now or not is_of_this_process(now) then
            now = 'N' .. args[3] .. PROCESS
            call('SET', keys[1], now)
            call('DEL', known)
        end
        return {call('HEXISTS', known, args[2]), now}
    end
    if args[1] == 'who' then return {now or '', call('HKEYS', known)} end
    if now == args[3] then
        if args[1] == 'known' then
            call('HSET', known, args[2], 1)
        elseif sub(now, 1, 1) == 'N' then
            now = 'R' .. sub(now, 2)
            call('SET', keys[1], now)
        end
    end
    return {now or ''}
end

return {run = run, slots = slots, take_rate = take_rate}
