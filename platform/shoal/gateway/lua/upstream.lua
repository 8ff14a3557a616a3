-- Runs once an attempt has its copy: renames the model to the revision that copy holds. Requests on the way to the
-- activator have no x-shoal-revision and pass as the client sent them; attempts share their headers (but not their
-- body), so what an earlier attempt wrote there is taken back.
local names = require("shoal.names")
local frames = require("shoal.frames")

local SERVICE = "/inference.GRPCInferenceService/"
local UNARY = { [SERVICE .. "ModelInfer"] = true, [SERVICE .. "ModelMetadata"] = true }
local STREAM = SERVICE .. "ModelStreamInfer"

local function rename_unary(handle, headers, revision)
  headers:remove("content-length")
  local body = handle:body()
  body:setBytes(frames.rename(body:getBytes(0, body:length()), revision))
end

local function rename_stream(handle, headers, revision)
  headers:remove("content-length")
  local rename = frames.renamer(revision)
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    if length > 0 then chunk:setBytes(rename(chunk:getBytes(0, length))) end
  end
end

local function restore(headers)
  local route = headers:get("x-shoal-route")
  if route and not string.find(route, "revision:", 1, true) then headers:remove("mm-model-id") end
  local path = headers:get("x-shoal-path")
  if path then headers:replace(":path", path) end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local revision = headers:get("x-shoal-revision")
  if not revision then return restore(headers) end
  local path = headers:get(":path")
  if UNARY[path] then return rename_unary(handle, headers, revision) end
  if path == STREAM then return rename_stream(handle, headers, revision) end
  local rest = string.match(path, "^/v2/models/[^/?]+(.*)$")
  if rest then headers:replace(":path", "/v2/models/" .. names.escape(revision) .. rest) end
end
