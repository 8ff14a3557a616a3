-- Runs on routes of a rollout once an attempt has its copy: renames the model to the revision that copy holds, which
-- Envoy has written into mm-model-id; there is no such header on the way to the activator, which goes by x-shoal-route.
-- There, errors of shielded copies are tried again too, and attempts at watched copies are noted for the report that
-- Envoy sends when the request is over (watching.py). The report itself has how the last attempt went; notes are of
-- those before it.
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

local function rename(handle, headers)
  local revision = headers:get("mm-model-id")
  if not revision then return end
  local path = headers:get(":path")
  if UNARY[path] then
    local body = handle:body()
    body:setBytes(frames.rename(body:getBytes(0, body:length()), revision))
  elseif path == STREAM then
    rename_stream(handle, revision)
  else
    local renamed = names.renamed_path(path, revision)
    if renamed then headers:replace(":path", renamed) end
  end
end

local NOTES = "shoal.attempts"
local AGAIN = { ["404"] = true, ["503"] = true }
-- UNKNOWN, INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS. Whether
-- a request is at fault or the new model is, only the active revision's answer can tell, unless the server knows that no
-- model could take the request.
local ERRORS = {
  ["2"] = true, ["3"] = true, ["9"] = true, ["11"] = true, ["12"] = true, ["13"] = true, ["14"] = true, ["15"] = true,
}
local REFUSALS = { ["400"] = true, ["422"] = true }
-- NOT_FOUND, UNAVAILABLE: tried again on every route.
local ALWAYS_AGAIN = { ["5"] = true, ["14"] = true }

local function now(handle)
  return tonumber(handle:timestampString(EnvoyTimestampResolution.MICROSECOND))
end

local function take(headers, name)
  local value = headers:get(name)
  if value then headers:remove(name) end
  return value
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local attempt = headers:get("x-envoy-attempt-count") or "1"
  local watched = take(headers, "x-shoal-watched")
  if watched or attempt ~= "1" then
    local notes = handle:streamInfo():dynamicMetadata()
    notes:set(NOTES, attempt, { from = now(handle), revision = watched and headers:get("mm-model-id") })
    notes:set(NOTES, "last", attempt)
    if watched then notes:set(NOTES, "watched", true) end
  end
  rename(handle, headers)
end

local function note_failure(handle, status)
  local metadata = handle:streamInfo():dynamicMetadata()
  local notes = metadata:get(NOTES)
  local note = notes and notes[notes.last]
  if not note then return end
  note.to = now(handle)
  note.status = status
  metadata:set(NOTES, notes.last, note)
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local shielded = take(headers, "x-shoal-shielded")
  local status, grpc_status = headers:get(":status"), headers:get("grpc-status")
  local again = AGAIN[status] and not headers:get("x-shoal-served")
  local of_request = headers:get("x-shoal-fault") == "request"
  if shielded and not of_request and (ERRORS[grpc_status] or REFUSALS[status] or string.sub(status, 1, 1) == "5") then again = true end
  if again then headers:replace("x-shoal-again", "1") end
  if again or ALWAYS_AGAIN[grpc_status] then note_failure(handle, grpc_status or status) end
end
