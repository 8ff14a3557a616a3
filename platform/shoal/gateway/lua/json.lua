-- Tells the two JSON forms of an inference request apart, and refuses what neither would read.
--
-- The protobuf form has `contents` with a typed list in each input; Envoy's transcoder converts it, and silently drops
-- what it does not know. The standard V2 form has `data`; the model server reads it. So every object of the protocol is
-- walked here and an unknown field is an error; tensors are only skipped over, their reader checks them.
local strings = require("shoal.strings")

local M = {}

local byte, find, sub, match = string.byte, string.find, string.sub, string.match

local QUOTE, BACKSLASH, COMMA, COLON = 34, 92, 44, 58
local OPEN = { [91] = 93, [123] = 125 } -- [ ] and { }

local function fail(message)
  error({ message = message }, 0)
end

local function space(s, i)
  return find(s, "[^ \t\r\n]", i) or #s + 1
end

local function show(s, i)
  if i > #s then return "the body ends early" end
  return "unexpected " .. (match(s, "^[%w%p ]", i) or "byte") .. " at byte " .. i
end

-- Position after the string that starts at i.
local function after_string(s, i)
  local from = i + 1
  while true do
    local at = find(s, '[%z\1-\31"\\]', from)
    if not at then fail("bad JSON: a string does not end") end
    local c = byte(s, at)
    if c == QUOTE then return at + 1 end
    if c ~= BACKSLASH then fail("bad JSON: a string has a control character at byte " .. at) end
    if find(s, '^["\\/bfnrt]', at + 1) then
      from = at + 2
    elseif find(s, "^u%x%x%x%x", at + 1) then
      from = at + 6
    else
      fail("bad JSON: a string has a bad escape at byte " .. at)
    end
  end
end

local function after_scalar(s, i)
  local _, last = find(s, "^-?%d+%.?%d*[eE]?[+-]?%d*", i)
  if not last then
    _, last = find(s, "^true", i)
  end
  if not last then
    _, last = find(s, "^false", i)
  end
  if not last then
    _, last = find(s, "^null", i)
  end
  if not last then fail("bad JSON: " .. show(s, i)) end
  return last + 1
end

-- Position after the array or object that starts at i, found by its brackets alone.
local function after_brackets(s, i)
  local closing, depth = { OPEN[byte(s, i)] }, 1
  local from = i + 1
  while depth > 0 do
    local at = find(s, '[]["{}]', from)
    if not at then fail("bad JSON: the body ends early") end
    local c = byte(s, at)
    from = at + 1
    if c == QUOTE then
      from = after_string(s, at)
    elseif OPEN[c] then
      depth = depth + 1
      closing[depth] = OPEN[c]
    elseif c ~= closing[depth] then
      fail("bad JSON: " .. show(s, at))
    else
      depth = depth - 1
    end
  end
  return from
end

local function after_value(s, i)
  local c = byte(s, i)
  if c == QUOTE then return after_string(s, i) end
  if OPEN[c] then return after_brackets(s, i) end
  return after_scalar(s, i)
end

-- Calls item(position) for each element from the opening bracket at i; item returns the position after it.
local function each(s, i, close, item)
  i = space(s, i + 1)
  if byte(s, i) == close then return i + 1 end
  while true do
    i = space(s, item(i))
    local c = byte(s, i)
    if c == close then return i + 1 end
    if c ~= COMMA then fail("bad JSON: " .. show(s, i)) end
    i = space(s, i + 1)
  end
end

local function array(s, i, where, item)
  if byte(s, i) ~= 91 then fail(where .. " must be a list") end
  local index = -1
  return each(s, i, 93, function(at)
    index = index + 1
    return item(at, where .. "[" .. index .. "]")
  end)
end

local function object(s, i, where, member)
  if byte(s, i) ~= 123 then fail(where .. " must be an object") end
  return each(s, i, 125, function(at)
    if byte(s, at) ~= QUOTE then fail("bad JSON: " .. show(s, at)) end
    local past = after_string(s, at)
    local key = sub(s, at + 1, past - 2)
    local colon = space(s, past)
    if byte(s, colon) ~= COLON then fail("bad JSON: " .. show(s, colon)) end
    return member(key, space(s, colon + 1))
  end)
end

-- An object of the protocol: `fields` maps accepted keys to the field they mean, `readers` fields to what reads them.
local function record(s, i, where, fields, readers)
  local seen = {}
  local past = object(s, i, where, function(key, at)
    local field = fields[key]
    if not field then fail(where .. " has the unknown field " .. sub(key, 1, 60)) end
    if seen[field] then fail(where .. " has " .. key .. " twice") end
    seen[field] = at
    local reader = readers[field]
    if reader then return reader(at, where == "the body" and key or where .. "." .. key) end
    return after_value(s, at)
  end)
  return past, seen
end

local function fields_of(...)
  local fields = {}
  for _, name in ipairs({ ... }) do
    fields[name] = name
    fields[(string.gsub(name, "_(%w)", string.upper))] = name
  end
  return fields
end

local BODY = fields_of("id", "parameters", "inputs", "outputs", "model_name", "model_version", "raw_input_contents")
local INPUT = fields_of("name", "shape", "datatype", "parameters", "data", "contents")
local OUTPUT = fields_of("name", "parameters")
local PARAMETER = fields_of("bool_param", "int64_param", "string_param", "double_param", "uint64_param")
local CONTENTS = fields_of(
  "bool_contents",
  "int_contents",
  "int64_contents",
  "uint_contents",
  "uint64_contents",
  "fp32_contents",
  "fp64_contents",
  "bytes_contents"
)
local FIELD_OF_DATATYPE = {
  BOOL = "bool_contents",
  INT8 = "int_contents",
  INT16 = "int_contents",
  INT32 = "int_contents",
  INT64 = "int64_contents",
  UINT8 = "uint_contents",
  UINT16 = "uint_contents",
  UINT32 = "uint_contents",
  UINT64 = "uint64_contents",
  FP32 = "fp32_contents",
  FP64 = "fp64_contents",
  BYTES = "bytes_contents",
}

local DATATYPES = "BOOL, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FP16, FP32, FP64, BYTES"

local function text_at(s, i)
  if i and byte(s, i) == QUOTE then return sub(s, i + 1, after_string(s, i) - 2) end
end

local function read_contents(s, i, where)
  local past, seen = record(s, i, where, CONTENTS, {})
  local field = next(seen)
  if not field then fail(where .. " has no values") end
  if next(seen, field) then fail(where .. " has values of two types; only one would be used") end
  return past, field
end

local function check_datatype(s, seen, field, where)
  local datatype = text_at(s, seen.datatype)
  local expected = FIELD_OF_DATATYPE[datatype]
  if datatype == "FP16" or datatype == "BF16" then
    local advice = ", which contents has no field for; send it in raw_input_contents"
    fail(where .. " has the datatype " .. datatype .. advice)
  end
  if datatype and not expected then
    fail(where .. " has the unknown datatype " .. sub(datatype, 1, 60) .. "; there are " .. DATATYPES)
  end
  if datatype and expected ~= field then
    fail(where .. " has the datatype " .. datatype .. " but its values are in " .. field .. "; use " .. expected)
  end
end

-- An input: notes in `found` which form it is of.
local function read_input(s, i, where, found)
  local field
  local past, seen = record(s, i, where, INPUT, {
    contents = function(at, inner)
      local after
      after, field = read_contents(s, at, inner)
      return after
    end,
    parameters = function(at, inner)
      found.parameters[inner] = at
      return after_value(s, at)
    end,
  })
  if seen.data and seen.contents then fail(where .. " has both data and contents; only one would be used") end
  if field then check_datatype(s, seen, field, where) end
  if seen.contents then found.contents = where end
  if seen.data then found.data = where end
  if not seen.data and not seen.contents then found.neither = where end
  return past
end

local function walk(s)
  local found = { parameters = {} }
  local start = space(s, 1)
  if start > #s then fail("the body is empty") end
  local function parameters(at, where)
    found.parameters[where] = at
    return after_value(s, at)
  end
  local past, seen = record(s, start, "the body", BODY, {
    parameters = parameters,
    inputs = function(at, where)
      return array(s, at, where, function(item, inner) return read_input(s, item, inner, found) end)
    end,
    outputs = function(at, where)
      return array(s, at, where, function(item, inner)
        return (record(s, item, inner, OUTPUT, { parameters = parameters }))
      end)
    end,
  })
  if space(s, past) <= #s then fail("bad JSON: " .. show(s, space(s, past))) end
  found.seen = seen
  return found
end

local function check_parameters(s, found)
  for where, at in pairs(found.parameters) do
    object(s, at, where, function(key, value)
      return (record(s, value, where .. "." .. key, PARAMETER, {}))
    end)
  end
end

-- What the body repeats of the path; empty and null say nothing.
local function repeated(s, seen, field)
  local at = seen[field]
  if not at or find(s, "^null", at) then return nil end
  local text = text_at(s, at)
  if not text then fail(field .. " must be a string") end
  if text ~= "" then return strings.unescape(text) end
end

local function check_repeated(s, seen, model, version, form)
  local name = repeated(s, seen, "model_name")
  if name and model and name ~= model then
    fail("model_name is " .. sub(name, 1, 60) .. " but the path names " .. sub(model, 1, 60)
      .. "; leave it out or make them agree")
  end
  local given = repeated(s, seen, "model_version")
  if not given or given == version then return end
  if version ~= "" then
    fail("model_version is " .. sub(given, 1, 60) .. " but the path names " .. sub(version, 1, 60)
      .. "; leave it out or make them agree")
  end
  if form == "standard" then
    fail("model_version is " .. sub(given, 1, 60) .. " but the path names no version; there is "
      .. "/v2/models/NAME/versions/VERSION/infer")
  end
end

local NEITHER = " has neither data (the standard form) nor contents (the protobuf form)"

local function decide(s, model, version, binary)
  local found = walk(s)
  local seen = found.seen
  if not seen.inputs then fail("the body has no inputs") end
  local protobuf = found.contents or seen.raw_input_contents
  if protobuf and found.data then
    fail(found.data .. " has data but " .. (found.contents or "the body") .. " has contents; use one form for all")
  end
  if found.contents and (seen.raw_input_contents or found.neither) then
    fail((found.neither or found.contents) .. ": either every input has contents, or raw_input_contents has all")
  end
  if not protobuf and not found.data and not found.neither then fail("inputs is empty") end
  if protobuf and binary then fail("contents and the binary tensor extension do not go together") end
  if found.neither and not protobuf and not binary then fail(found.neither .. NEITHER) end
  if protobuf then check_parameters(s, found) end
  local form = protobuf and "protobuf" or "standard"
  if seen.model_name or seen.model_version then check_repeated(s, seen, model, version, form) end
  return form
end

-- The form of a request body for `model` (false: whatever model it names) and `version` ("": the path has none):
-- "protobuf" or "standard", or nil and what is wrong with it.
-- `binary`: tensors follow the JSON, so that inputs need no data.
function M.form(s, model, version, binary)
  local ok, result = pcall(decide, s, model, version, binary)
  if ok then return result end
  if type(result) ~= "table" then error(result, 0) end
  return nil, result.message
end

-- Whether an object may have a field of the model's name, as protobuf's JSON calls it.
function M.may_name_model(s)
  return find(s, '"model_name"', 1, true) or find(s, '"modelName"', 1, true)
end

local function escaped(char)
  return string.format("\\u%04x", byte(char))
end

-- An object with the model's name once more at its end: the last one counts, for protobuf's JSON as for protobuf.
function M.renamed(s, name)
  local last = #s
  while byte(s, last) ~= 125 do last = last - 1 end -- a closing brace
  return sub(s, 1, last - 1) .. ',"model_name":"' .. string.gsub(name, '[%c"\\]', escaped) .. '"}'
end

-- The message of a google.rpc.Status in JSON, still escaped; nil if `s` is none.
function M.status_message(s)
  if not find(s, '^{"code":') then return nil end
  local _, quote = find(s, '^{"code":%d+,"message":"')
  if not quote then return "" end
  return sub(s, quote + 1, after_string(s, quote) - 2)
end

return M
