-- publish.lua · append facts that are not moves, at offsets and a moment of the store
-- ASKED  per fact: queue, kind, its fields as JSON
-- RETURNS  nothing
-- May run without memory to spare: old facts go when new ones come.

begin()
for _, fact in ipairs(ASKED) do
  know_queue(fact[1])
  tell_text({ fact[1], fact[2], now }, 1, 'j', fact[3])
end
finish()
