
end

-- While a library is loaded, little of Lua is there: the rest is made at the first call.
local made = nil
local function library(name)
    return function(keys, args)
        if not made then made = make() end
        return made[name](keys, args)
    end
end

-- What brings items in is refused when memory is used up; what takes them out goes on.
redis.register_function{function_name = 'NAME_in', callback = library('run')}
redis.register_function{function_name = 'NAME', callback = library('run'), flags = {'allow-oom'}}
redis.register_function{function_name = 'NAME_slots', callback = library('slots'), flags = {'allow-oom'}}
redis.register_function{function_name = 'NAME_rate', callback = library('take_rate'), flags = {'allow-oom'}}
