-- Counts requests and tells the mesh. Every worker counts for itself, and so does every script: a script has its tables
-- once in each worker. Envoy asks all of them for a report in turn: it checks its own health (ticks.py).
local frames = require("shoal.frames")

local M = {}

-- Requests leave garbage, and what is to stay is little, but looked through each time that garbage is collected: a third
-- as often as by default takes some 3 % off a request, for twice the memory.
collectgarbage("setpause", 400)

local MAX_BYTES = 4194304 -- of names that are counted at a time: clients may ask for any name
local AT = 64 -- ticks come to addresses that begin so, which nothing but this machine can reach
local HEADERS = {
  [":method"] = "POST",
  [":path"] = "/shoal.usage.v1.Usage/Report",
  [":authority"] = "mesh",
  ["content-type"] = "application/grpc",
  ["te"] = "trailers",
}
local TIMEOUT_MS = 5000 -- less than a tick may take

local counts, bytes = {}, 0
local sent -- counts that the mesh has not taken yet

-- One more request.
function M.count(name)
  local count = counts[name]
  if count then
    counts[name] = count + 1
    return
  end
  if bytes + #name > MAX_BYTES then return end
  bytes = bytes + #name
  counts[name] = 1
end

local function take_back(batch)
  for name, count in pairs(batch) do
    local more = counts[name]
    if more or bytes + #name <= MAX_BYTES then
      if not more then bytes = bytes + #name end
      counts[name] = (more or 0) + count
    end
  end
end

local function report(handle)
  local used = {}
  for name, count in pairs(counts) do
    local fields = frames.name_field(name) .. "\16" .. frames.encode_varint(count)
    used[#used + 1] = "\10" .. frames.encode_varint(#fields) .. fields
  end
  local batch = counts
  sent, counts, bytes = batch, {}, 0
  local headers = handle:httpCall("shoal:xds", HEADERS, frames.frame(table.concat(used)), { timeout_ms = TIMEOUT_MS })
  sent = nil
  if headers[":status"] ~= "200" or (headers["grpc-status"] or "0") ~= "0" then take_back(batch) end
end

-- Whether Envoy asks for a report, and nobody else.
function M.is_tick(handle)
  return string.byte(handle:streamInfo():downstreamLocalAddress(), 1) == AT
end

-- Answers a request that asks for a report.
function M.tick(handle)
  if not M.is_tick(handle) then return handle:respond({ [":status"] = "404" }, "") end
  if sent then -- the one who waited for the answer is gone
    take_back(sent)
    sent = nil
  end
  if next(counts) then report(handle) end
  handle:respond({ [":status"] = "200" }, "")
end

return M
