-- The gRPC port: finds the name a request is for, and sends it on the way there. Runs for calls that go by model only;
-- those of the mesh itself (management, health, repository) are told apart by Envoy's own route table.
local names = require("shoal.names")
local frames = require("shoal.frames")
local inference = require("shoal.inference")
local routes = require("shoal.routes")
local usage = require("shoal.usage")

local TICK = "/shoal.tick/grpc"
local SERVICE = "/inference.GRPCInferenceService/"
local INFER, METADATA, STREAM = SERVICE .. "ModelInfer", SERVICE .. "ModelMetadata", SERVICE .. "ModelStreamInfer"
-- What metrics call methods other than inference.
local METHODS = { [METADATA] = "ModelMetadata", [STREAM] = "ModelStreamInfer" }

-- Compressed messages can neither be read nor renamed here; the activator unpacks them.
local function is_compressed(headers)
  local encoding = headers:get("grpc-encoding")
  return encoding and encoding ~= "identity"
end

local function send_stream(handle, headers, key)
  local revision = routes.send(handle, headers, key, inference.ACTIVATOR)
  if not revision then return end
  headers:remove("content-length") -- which renaming changes
  local rename = frames.renamer(revision)
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    if length > 0 then chunk:setBytes(rename(chunk:getBytes(0, length))) end
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path")
  if path == TICK then return usage.tick(handle) end
  local name, is_revision, bad = names.from_headers(headers)
  if bad then return inference.refuse(handle, bad) end
  local kind
  kind, bad = names.kind(headers, is_revision)
  if bad then return inference.refuse(handle, bad) end
  if path ~= INFER then headers:replace("x-shoal-method", METHODS[path] or "other") end
  local unary = path == INFER or path == METADATA
  if (unary or path == STREAM) and is_compressed(headers) then
    if name then return routes.hand_over(handle, headers, kind .. names.escape(name), inference.ACTIVATOR) end
    return routes.go(handle, headers, inference.ACTIVATOR)
  end
  if unary then
    local body, start, in_body
    body, bad, start, in_body = inference.read(handle)
    if bad then return inference.refuse(handle, bad) end
    name = name or in_body
    if not name or name == "" then return inference.refuse(handle, inference.NAMELESS) end
    return inference.send(handle, body, start, kind .. names.escape(name))
  end
  if name then
    if path == STREAM then return send_stream(handle, headers, kind .. names.escape(name)) end
    return routes.send(handle, headers, kind .. names.escape(name), inference.ACTIVATOR)
  end
  -- The first message of a stream names the model; the activator reads it.
  if path == STREAM then return routes.go(handle, headers, inference.ACTIVATOR) end
  if string.find(path, SERVICE, 1, true) == 1 then -- such as Triton's ModelConfig
    local message = "no " .. string.sub(path, #SERVICE + 1) .. " here; a model's server may have it: name the model in a header mm-vmodel-id"
    return inference.refuse(handle, message, inference.UNIMPLEMENTED)
  end
  inference.refuse(handle, "must include mm-vmodel-id or mm-model-id header")
end
