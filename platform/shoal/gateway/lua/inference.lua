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

-- The one message of a request and the name in it: body or nil, error, name.
function M.read(handle)
  local body = handle:body()
  if not body then return nil, "the request has no message" end
  local name, bad = frames.read_name(function(offset, count) return body:getBytes(offset, count) end, body:length())
  if bad then return nil, bad end
  return body, nil, name
end

-- Send a request with one message where `key` leads, by the name it has there.
function M.send(handle, body, key)
  local length = body:length()
  local revision = routes.send(handle, handle:headers(), key, M.ACTIVATOR, length)
  if revision then body:setBytes(frames.rename(body:getBytes(0, length), revision)) end
end

return M
