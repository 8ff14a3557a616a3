-- The gRPC port: finds the name a request is for and says so in x-shoal-route. Runs for calls that go by model only;
-- those of the mesh itself (management, health, repository) are told apart by Envoy's own route table.
local names = require("shoal.names")
local inference = require("shoal.inference")
local usage = require("shoal.usage")

local TICK = "/shoal.tick/grpc"
local SERVICE = "/inference.GRPCInferenceService/"
local UNARY = { [SERVICE .. "ModelInfer"] = true, [SERVICE .. "ModelMetadata"] = true }
local STREAM = SERVICE .. "ModelStreamInfer"

-- Compressed messages can neither be read nor renamed here; the activator unpacks them.
local function is_compressed(headers)
  local encoding = headers:get("grpc-encoding")
  return encoding and encoding ~= "identity"
end

-- To the activator, whatever routes there are. mm-model-id is for copies only past here, its binary form stays.
local function to_activator(headers, name, is_revision)
  if is_revision then headers:replace("mm-model-id-bin", names.base64_encode(name)) end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path")
  if path == TICK then return usage.tick(handle) end
  if headers:get("x-shoal-route") then -- ours to say, not the client's
    headers:remove("x-shoal-route")
    handle:clearRouteCache()
  end
  local name, is_revision, bad = names.from_headers(headers)
  if bad then return inference.refuse(handle, bad) end
  local kind
  kind, bad = names.kind(headers, is_revision)
  if bad then return inference.refuse(handle, bad) end
  local unary = UNARY[path]
  if (unary or path == STREAM) and is_compressed(headers) then return to_activator(headers, name, is_revision) end
  if unary then
    local in_body
    in_body, bad = inference.name_in_body(handle)
    if bad then return inference.refuse(handle, bad) end
    headers = handle:headers() -- the old one is dead once the body was waited for
    name = name or in_body
    if not name or name == "" then return inference.refuse(handle, inference.NAMELESS) end
  elseif not name then
    if path == STREAM then return end -- its first message names the model; the activator reads it
    if string.find(path, SERVICE, 1, true) == 1 then -- such as Triton's ModelConfig
      local message = "no " .. string.sub(path, #SERVICE + 1) .. " here; a model's server may have it: name the model in a header mm-vmodel-id"
      return inference.refuse(handle, message, inference.UNIMPLEMENTED)
    end
    return inference.refuse(handle, "must include mm-vmodel-id or mm-model-id header")
  end
  inference.route(handle, headers, kind, name)
end
