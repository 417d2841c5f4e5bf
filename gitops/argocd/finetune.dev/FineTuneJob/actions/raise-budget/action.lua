-- The budget of a job may be raised while it runs, or when it is suspended because the budget is spent.
local wanted, now = actionParams["maxCostUSD"], obj.spec.runPolicy.budget.maxCostUSD
if wanted == nil or not (string.match(wanted, "^%d+$") or string.match(wanted, "^%d+%.%d+$")) then
  error("maxCostUSD is dollars such as 200 or 200.50, not " .. tostring(wanted))
end
if tonumber(wanted) <= tonumber(now) then
  error("the budget is $" .. now .. " already: $" .. wanted .. " would not raise it")
end
obj.spec.runPolicy.budget.maxCostUSD = wanted
return obj
