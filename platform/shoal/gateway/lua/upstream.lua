-- Runs once an attempt has its copy: renames the model to the revision that copy holds, which Envoy has written into
-- mm-model-id. On the way to the activator there is no such header and the request passes as the client sent it;
-- attempts share their headers (but not their body), so what an earlier attempt wrote there is taken back.
local names = require("shoal.names")
local frames = require("shoal.frames")

local SERVICE = "/inference.GRPCInferenceService/"
local UNARY = { [SERVICE .. "ModelInfer"] = true, [SERVICE .. "ModelMetadata"] = true }
local STREAM = SERVICE .. "ModelStreamInfer"

local function rename_stream(handle, revision)
  local rename = frames.renamer(revision)
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    if length > 0 then chunk:setBytes(rename(chunk:getBytes(0, length))) end
  end
end

-- A header and its binary form: set one of them, unless the client did.
local function name_in_headers(headers, header, name)
  local binary = header .. "-bin"
  if headers:get(header) or headers:get(binary) then return end
  if names.is_header_safe(name) then
    headers:replace(header, name)
  else
    headers:replace(binary, names.base64_encode(name))
  end
end

local function to_activator(headers)
  local path = headers:get("x-shoal-path")
  if path then headers:replace(":path", path) end
  local route = headers:get("x-shoal-route")
  if not route or string.find(route, "shoal:", 1, true) == 1 then return end
  local kind, escaped = string.match(route, "^(.*):(.*)$")
  local is_revision = kind == "revision" or kind == "http-revision"
  name_in_headers(headers, is_revision and "mm-model-id" or "mm-vmodel-id", names.unescape(escaped or route))
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local revision = headers:get("mm-model-id")
  if not revision then return to_activator(headers) end
  local path = headers:get(":path")
  if UNARY[path] then
    local body = handle:body()
    body:setBytes(frames.rename(body:getBytes(0, body:length()), revision))
  elseif path == STREAM then
    rename_stream(handle, revision)
  else
    local rest = string.match(path, "^/v2/models/[^/?]+(.*)$")
    if rest then headers:replace(":path", "/v2/models/" .. names.escape(revision) .. rest) end
  end
end
