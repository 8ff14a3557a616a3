-- Half a megabyte that is always in use, for scripts that run with every request. Lua collects its garbage whenever the
-- heap has doubled; these scripts' own is so small that this would be every few requests, each time at the cost of
-- walking all of it. A longer string costs the collector nothing.
return string.rep("-", 512 * 1024)
