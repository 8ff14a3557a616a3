-- Names of routes and headers: the gateway's half of names.py.
local M = {}

local UNSAFE = "[^%w._~-]"
local SAFE = {}
for c = 0, 255 do SAFE[c] = not string.find(string.char(c), UNSAFE) end

local function percent(char)
  return string.format("%%%02X", string.byte(char))
end

-- A name as it stands in cluster names: all but URL-safe characters percent-encoded.
function M.escape(name)
  for i = 1, #name do -- which LuaJIT compiles, unlike string.find
    if not SAFE[string.byte(name, i)] then return (string.gsub(name, UNSAFE, percent)) end
  end
  return name
end

-- The path of a V2 REST request with its model renamed; nil if it is none for a model.
function M.renamed_path(path, name)
  local rest = string.match(path, "^/v2/models/[^/?]+(.*)$")
  return rest and "/v2/models/" .. M.escape(name) .. rest
end

-- Percent-decoding, as in URL paths. Returns nil when a percent sign is not followed by two hex digits.
function M.unescape(text)
  if not string.find(text, "%", 1, true) then return text end
  local bad = false
  local decoded = string.gsub(text, "%%(.?.?)", function(hex)
    if not string.find(hex, "^%x%x$") then bad = true return "" end
    return string.char(tonumber(hex, 16))
  end)
  if bad then return nil end
  return decoded
end

-- Text as it may stand in the grpc-message header (gRPC over HTTP/2: percent-encoded UTF-8).
function M.escape_message(text)
  return (string.gsub(text, "[^\32-\36\38-\126]", percent))
end

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local VALUES = {}
for i = 1, 64 do VALUES[string.byte(ALPHABET, i)] = i - 1 end

-- Base64 (RFC 4648), padding optional as gRPC allows for `-bin` headers. Returns nil when it is not base64.
function M.base64_decode(text)
  text = string.gsub(text, "=+$", "")
  if #text % 4 == 1 then return nil end
  local out, buffer, bits = {}, 0, 0
  for i = 1, #text do
    local value = VALUES[string.byte(text, i)]
    if not value then return nil end
    buffer = buffer * 64 + value
    bits = bits + 6
    if bits >= 8 then
      bits = bits - 8
      local unit = 2 ^ bits
      out[#out + 1] = string.char(math.floor(buffer / unit))
      buffer = buffer % unit
    end
  end
  return table.concat(out)
end

function M.base64_encode(text)
  local out = {}
  for i = 1, #text, 3 do
    local a, b, c = string.byte(text, i, i + 2)
    local group = a * 65536 + (b or 0) * 256 + (c or 0)
    for place = 3, 0, -1 do
      local present = place >= 2 or (place == 1 and b) or (place == 0 and c)
      local index = math.floor(group / 64 ^ place) % 64 + 1
      out[#out + 1] = present and string.sub(ALPHABET, index, index) or "="
    end
  end
  return table.concat(out)
end

-- Whether a name can stand in a text header.
function M.is_header_safe(name)
  return not string.find(name, "[^\33-\126]")
end

local BOTH = "must include only one of model id and vmodel id"

local function from_binary(headers, header)
  local encoded = headers:get(header)
  if not encoded then return nil end
  local name = M.base64_decode(encoded)
  if not name or name == "" then return nil, header .. " must be the base64 of a name in UTF-8" end
  return name
end

local function one_of(headers, text, binary)
  local name = headers:get(text)
  if name == "" then return nil, text .. " is empty" end
  if name then return name end
  return from_binary(headers, binary)
end

-- The name a request's headers give: name, is_revision, error. All nil when they give none. With mm-revision, no other
-- name counts, and mm-vmodel-id is taken away.
function M.from_headers(headers)
  local endpoint, bad = one_of(headers, "mm-vmodel-id", "mm-vmodel-id-bin")
  if bad then return nil, nil, bad end
  local revision
  revision, bad = one_of(headers, "mm-model-id", "mm-model-id-bin")
  if bad then return nil, nil, bad end
  if not revision then
    revision = headers:get("tas-model-id")
    if revision == "" then return nil, nil, "tas-model-id is empty" end
  end
  local asked = headers:get("mm-revision")
  if asked then
    if asked == "" then return nil, nil, "mm-revision is empty" end
    if revision and revision ~= asked then return nil, nil, "mm-revision names " .. asked .. " but mm-model-id " .. revision end
    headers:remove("mm-vmodel-id") -- whatever else names the model does not count, here or at the activator
    headers:remove("mm-vmodel-id-bin")
    return asked, true
  end
  if endpoint and revision then return nil, nil, BOTH end
  if revision then return revision, true end
  return endpoint, false
end

local KINDS = { always = "canary:", never = "stable:" }

-- The kind of route a request is for, as its name starts: kind or nil, error.
function M.kind(headers, is_revision)
  local canary = headers:get("x-shoal-canary")
  if not canary then return is_revision and "revision:" or "" end
  local kind = KINDS[canary]
  if not kind then return nil, "x-shoal-canary must be always or never, not " .. canary end
  if is_revision then return nil, "x-shoal-canary is for endpoints, but mm-revision or mm-model-id names a revision" end
  return kind
end

return M
