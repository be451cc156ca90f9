local function make()
