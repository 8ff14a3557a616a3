-- What the scripts of the gRPC port share.
local names = require("shoal.names")
local frames = require("shoal.frames")
local routes = require("shoal.routes")

local M = {}

M.NAMELESS = "the message names no model: set model_name, or the header mm-vmodel-id"
M.ACTIVATOR = "shoal:activator-grpc"

M.INVALID_ARGUMENT, M.UNIMPLEMENTED = "3", "12"

function M.refuse(handle, message, status)
  handle:respond({
    [":status"] = "200",
    ["content-type"] = "application/grpc",
    ["grpc-status"] = status or M.INVALID_ARGUMENT,
    ["grpc-message"] = names.escape_message(message),
  })
end

-- The one message of a request, how it starts, and the name in it: body or nil, error, start, name. To read
-- a message is a call of Envoy and a copy, so that `send` is given what was read.
function M.read(handle)
  local body = handle:body()
  if not body then return nil, "the request has no message" end
  local length = body:length()
  local start = body:getBytes(0, math.min(frames.WINDOW, length))
  local name, bad = frames.read_name(body, length, start)
  if bad then return nil, bad end
  return body, nil, start, name
end

-- Send a request with one message, which starts so, where `key` leads, by the name it has there.
function M.send(handle, body, start, key)
  local length = #start < frames.WINDOW and #start or body:length()
  local revision = routes.send(handle, handle:headers(), key, M.ACTIVATOR, length)
  if revision then
    local whole = #start == length and start or body:getBytes(0, length)
    body:setBytes(frames.rename(whole, revision))
  end
end

return M
