-- The REST port: the V2 routes, and for inference the form of the body. What goes where:
--   the protobuf form     -> Envoy's transcoder, then as gRPC by name
--   the standard form     -> the model server's own HTTP endpoint by name, or the activator's
--   metadata and the like -> likewise
--   server, readiness and repository routes -> the mesh
local names = require("shoal.names")
local json = require("shoal.json")
local routes = require("shoal.routes")
local usage = require("shoal.usage")

local UNPACKED = "x-shoal-encoding" -- what content-encoding was before Envoy unpacked the body
local SLASH = 47
local MESH, HEALTH, TICK = "shoal:mesh-http", "shoal:health", "tick"
local ACTIVATOR_GRPC, ACTIVATOR_HTTP = "shoal:activator-grpc", "shoal:activator-http"
local ROUTES = "GET /v2, /v2/health/live, /v2/health/ready, /v2/models/NAME, /v2/models/NAME/ready; "
  .. "POST /v2/models/NAME/infer, /v2/repository/index, /v2/repository/models/NAME/load, "
  .. "/v2/repository/models/NAME/unload; models also as /v2/models/NAME/versions/VERSION"

local OF_SERVER = {
  ["/v2"] = { "GET", MESH },
  ["/v2/health/live"] = { "GET", HEALTH },
  ["/v2/health/ready"] = { "GET", HEALTH },
  ["/v2/repository/index"] = { "POST", MESH },
  ["/shoal.tick/rest"] = { "GET", TICK },
}
-- What may follow /v2/models/NAME: the method, and who answers.
local OF_MODEL = {
  [""] = { "GET", "server" },
  ["/ready"] = { "GET", MESH },
  ["/infer"] = { "POST", "infer" },
  ["/generate"] = { "POST", "server" },
  ["/generate_stream"] = { "POST", "server" },
  ["/infer_stream"] = { "POST", "server" },
}

local function respond(handle, status, message, allow)
  handle:respond({ [":status"] = status, ["allow"] = allow }, message)
end

-- The route of a path: method, who answers, the name and the version in the path as they are there.
local function find_route(path)
  local route = OF_SERVER[path]
  if route then return route[1], route[2] end
  if string.find(path, "^/v2/repository/models/[^/]+/load$") or string.find(path, "^/v2/repository/models/[^/]+/unload$") then
    return "POST", MESH
  end
  local name, rest = string.match(path, "^/v2/models/([^/]+)(.*)$")
  if not name then return nil end
  route = OF_MODEL[rest]
  local version
  if not route then
    version, rest = string.match(rest, "^/versions/([^/]+)(.*)$")
    route = version and OF_MODEL[rest]
  end
  if not route then return nil end
  return route[1], route[2], name, version or ""
end

-- The published protocol writes some paths with a closing slash. It means nothing, but servers would redirect.
local function without_slash(headers, path, query)
  path = string.sub(path, 1, -2)
  headers:replace(":path", query == "" and path or path .. "?" .. query)
  return path, query
end

-- What a request is for: name, kind of route; or nil, error. Names in headers must not contradict the path, but for
-- mm-revision.
local function wanted(headers, name)
  local given, is_revision, bad = names.from_headers(headers)
  if bad then return nil, bad end
  local kind
  kind, bad = names.kind(headers, is_revision)
  if bad then return nil, bad end
  if given and given ~= name then
    if not headers:get("mm-revision") then return nil, "the path names " .. name .. " but the header names " .. given end
    name = given
  end
  return name, kind
end

-- Send the request where its name leads, by the name it has there.
local function by_name(handle, headers, key, activator, length)
  local revision = routes.send(handle, headers, key, activator, length)
  if revision then headers:replace(":path", names.renamed_path(headers:get(":path"), revision)) end
  return revision
end

local function by_name_http(handle, headers, kind, name)
  by_name(handle, headers, (kind == "" and "http:" or "http-" .. kind) .. names.escape(name), ACTIVATOR_HTTP)
end

-- The JSON part of a body, and whether tensors follow it: text, binary, error.
local function json_part(headers, body)
  local given = headers:get("inference-header-content-length")
  if not given then return body:getBytes(0, body:length()), false end
  local length = string.find(given, "^%d+$") and #given < 16 and tonumber(given)
  if not length or length > body:length() then
    return nil, nil, "inference-header-content-length is " .. given .. " but the body has " .. body:length() .. " bytes"
  end
  return body:getBytes(0, length), true
end

-- What is wrong with a body that Envoy unpacked before: it unpacks as much as it can, and tells nobody of the rest.
local function of_gzip(bad, length)
  if length == 0 then
    return "content-encoding is gzip but the body is none; compress the body, or leave the header out"
  end
  return bad .. "; the body was unpacked, as content-encoding says: it may have been cut off"
end

-- `in_path`: the name the body may repeat; false when no name but that of the header counts. `version`: that in the path.
local function infer(handle, in_path, version, kind, name, query)
  local unpacked = handle:headers():get(UNPACKED)
  handle:headers():remove(UNPACKED)
  local encoding = handle:headers():get("content-encoding")
  if encoding and encoding ~= "identity" then
    return respond(handle, "415", "content-encoding " .. encoding .. " is not supported; use gzip or none")
  end
  local body = handle:body()
  if not body then return respond(handle, "400", "the request has no body") end
  local headers = handle:headers()
  local text, binary, bad = json_part(headers, body)
  local form
  if text then
    form, bad = json.form(text, in_path, version, binary)
  end
  if not form then return respond(handle, "400", unpacked and of_gzip(bad, body:length()) or bad) end
  if form == "protobuf" then
    if query ~= "" then return respond(handle, "400", "query parameters are not used here; leave them out") end
    handle:streamInfo():dynamicMetadata():set("shoal", "converted", true)
    headers:replace("content-type", "application/json")
    local revision = by_name(handle, headers, kind .. names.escape(name), ACTIVATOR_GRPC, body:length())
    if revision and json.may_name_model(text) then body:setBytes(json.renamed(text, revision)) end
    return
  end
  if not binary then headers:replace("content-type", "application/json") end
  by_name_http(handle, headers, kind, name)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path, query = string.match(headers:get(":path"), "^([^?]*)%??(.*)$")
  if string.byte(path, -1) == SLASH and path ~= "/" then path, query = without_slash(headers, path, query) end
  local method, who, name, version = find_route(path)
  if not method then return respond(handle, "404", "there is no " .. string.sub(path, 1, 200) .. " here; there are " .. ROUTES) end
  local given = headers:get(":method")
  local by_mesh = who == MESH or who == HEALTH
  if given ~= method and not (method == "GET" and given == "HEAD" and by_mesh) then
    return respond(handle, "405", path .. " is for " .. method .. ", not " .. given, method)
  end
  if who == TICK then return usage.tick(handle) end
  if by_mesh then return routes.go(handle, headers, who) end
  name, version = names.unescape(name), version == "" and "" or names.unescape(version)
  if not name or not version then
    return respond(handle, "400", "the name or version in the path is not percent-encoded properly")
  end
  local asked, kind = wanted(headers, name)
  if not asked then return respond(handle, "400", kind) end
  if given == "GET" then headers:replace("x-shoal-method", "ModelMetadata") end
  if who == "infer" then return infer(handle, asked == name and name, version, kind, asked, query) end
  by_name_http(handle, headers, kind, asked)
end

-- Errors of requests that were converted to gRPC come from the transcoder as a google.rpc.Status; the V2 protocol words
-- them differently.
function envoy_on_response(handle)
  handle:headers():remove("x-shoal-again")
  local noted = handle:streamInfo():dynamicMetadata():get("shoal")
  if not noted or not noted.converted then return end
  local headers = handle:headers()
  headers:remove("grpc-status")
  headers:remove("grpc-message")
  headers:remove("grpc-accept-encoding")
  if headers:get(":status") == "200" then return end
  local body = handle:body(true)
  local message = json.status_message(body:getBytes(0, body:length()))
  if not message then return end
  body:setBytes('{"error":"' .. message .. '"}')
  handle:headers():replace("content-length", tostring(#message + 12))
end
