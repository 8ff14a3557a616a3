-- Sends a request on its way: to the model's route if gateways have one, otherwise to the activator.
local usage = require("shoal.usage")

local M = {}

-- Bytes from which on a message goes by connections for large ones, where small ones do not wait for it.
local LARGE = 65536

local function go(handle, headers, route)
  headers:replace("x-shoal-route", route)
  handle:clearRouteCache()
end

M.go = go

-- The request is for `key`, but a part of the mesh takes it, which is told so.
local function hand_over(handle, headers, key, to)
  headers:replace("x-shoal-for", key)
  go(handle, headers, to)
end

M.hand_over = hand_over

-- The route of who wants no canary: any copy will do, unless the route has those of a rollout.
local function without_stable(key)
  local http, name = string.match(key, "^(.*)stable:(.*)$")
  return http == "" and name or "http:" .. name
end

-- Send the request where `key` leads. Returns the revision that the request must name, if all copies hold the same one;
-- otherwise it is renamed later, or not at all. `length`: of the message, if it may be large.
function M.send(handle, headers, key, activator, length)
  local is_stable = string.find(key, "stable:", 1, true)
  local asked = key
  if is_stable then key = without_stable(key) end
  go(handle, headers, key)
  handle:metadata() -- has Envoy look which route the key has now
  local route = handle:streamInfo():routeName()
  local space = string.find(route, " ", 1, true)
  if not space then
    -- In a rollout the filters of its own cluster rename, and load reports count; only the activator knows what is active.
    if is_stable or route == "" then hand_over(handle, headers, asked, activator) end
    return nil
  end
  local revision = string.sub(route, space + 1)
  if length and length > LARGE then
    local metadata = handle:streamInfo():dynamicMetadata()
    metadata:set("shoal", "revision", revision)
    metadata:set("shoal", "route", key)
    hand_over(handle, headers, key, "shoal:large:" .. string.sub(route, 1, space - 1))
  end
  headers:replace("mm-model-id", revision)
  usage.count(key)
  return revision
end

return M
