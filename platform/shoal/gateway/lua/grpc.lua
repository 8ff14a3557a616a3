-- The gRPC port: finds the name a request is for and says so in x-shoal-route. Runs for calls that go by model only;
-- those of the mesh itself (management, health, repository) are told apart by Envoy's own route table.
local names = require("shoal.names")
local frames = require("shoal.frames")

local SERVICE = "/inference.GRPCInferenceService/"
local UNARY = { [SERVICE .. "ModelInfer"] = true, [SERVICE .. "ModelMetadata"] = true }
local STREAM = SERVICE .. "ModelStreamInfer"

local function refuse(handle, message)
  handle:respond({
    [":status"] = "200",
    ["content-type"] = "application/grpc",
    ["grpc-status"] = "3", -- INVALID_ARGUMENT
    ["grpc-message"] = names.escape_message(message),
  })
end

local function name_in_body(handle)
  local body = handle:body()
  if not body then return nil, "the request has no message" end
  return frames.read_name(function(offset, count) return body:getBytes(offset, count) end, body:length())
end

-- Compressed messages can neither be read nor renamed here; the activator unpacks them.
local function is_compressed(headers)
  local encoding = headers:get("grpc-encoding")
  return encoding and encoding ~= "identity"
end

local function route(handle, headers, cluster)
  headers:replace("x-shoal-route", cluster)
  handle:clearRouteCache()
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local name, is_revision, bad = names.from_headers(headers)
  if bad then return refuse(handle, bad) end
  local path = headers:get(":path")
  local unary = UNARY[path]
  if (unary or path == STREAM) and is_compressed(headers) then return end
  if unary then
    local in_body
    in_body, bad = name_in_body(handle)
    if bad then return refuse(handle, bad) end
    headers = handle:headers() -- the old one is dead once the body was waited for
    if not name then
      if not in_body or in_body == "" then
        return refuse(handle, "the message names no model: set model_name, or the header mm-vmodel-id")
      end
      name = in_body
      names.set_endpoint(headers, name)
    end
  elseif not name then
    if path == STREAM then return end -- its first message names the model; the activator reads it
    return refuse(handle, "must include mm-vmodel-id or mm-model-id header")
  end
  route(handle, headers, (is_revision and "revision:" or "") .. names.escape(name))
end
