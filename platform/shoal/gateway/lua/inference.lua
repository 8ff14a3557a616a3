-- What the scripts of the gRPC port share.
local names = require("shoal.names")
local frames = require("shoal.frames")
local usage = require("shoal.usage")

local M = {}

M.NAMELESS = "the message names no model: set model_name, or the header mm-vmodel-id"

M.INVALID_ARGUMENT, M.UNIMPLEMENTED = "3", "12"

function M.refuse(handle, message, status)
  handle:respond({
    [":status"] = "200",
    ["content-type"] = "application/grpc",
    ["grpc-status"] = status or M.INVALID_ARGUMENT,
    ["grpc-message"] = names.escape_message(message),
  })
end

-- The name in the one message of a request: name or nil, error.
function M.name_in_body(handle)
  local body = handle:body()
  if not body then return nil, "the request has no message" end
  return frames.read_name(function(offset, count) return body:getBytes(offset, count) end, body:length())
end

-- Say which cluster the request is meant for, and have Envoy look for its route anew.
function M.route(handle, headers, kind, name)
  local route = kind .. names.escape(name)
  headers:replace("x-shoal-route", route)
  usage.count(route)
  handle:clearRouteCache()
end

return M
