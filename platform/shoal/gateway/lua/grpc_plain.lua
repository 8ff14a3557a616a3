-- The gRPC port's shortest way, for nearly all requests: one uncompressed message that names its model, no name in a
-- header, no wish for a canary. Envoy's route table has checked that; everything else is grpc.lua's.
local inference = require("shoal.inference")
local names = require("shoal.names")
local usage = require("shoal.usage")

function envoy_on_request(handle)
  local body, bad, start, name = inference.read(handle)
  if bad then
    if usage.is_tick(handle) then return usage.tick(handle) end -- which has no message
    return inference.refuse(handle, bad)
  end
  if not name or name == "" then return inference.refuse(handle, inference.NAMELESS) end
  inference.send(handle, body, start, names.escape(name))
end
