-- What may be done to a finetune.dev FineTuneJob. Nothing to one that has ended: its result stays as it is.

local ended = false
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    if condition.type == "Succeeded" and condition.status ~= "Unknown" then
      ended = true
    end
  end
end
local suspended = obj.spec.suspend == true
local budget = obj.spec.runPolicy ~= nil and obj.spec.runPolicy.budget or nil

local actions = {}
actions["suspend"] = {
  ["disabled"] = ended or suspended,
  ["displayName"] = "Suspend with a checkpoint",
  ["iconClass"] = "fa fa-fw fa-pause",
}
actions["resume"] = {
  ["disabled"] = ended or not suspended,
  ["displayName"] = "Resume from the checkpoint",
  ["iconClass"] = "fa fa-fw fa-play",
}
actions["raise-budget"] = {
  ["disabled"] = ended or budget == nil,
  ["displayName"] = "Raise the budget",
  ["iconClass"] = "fa fa-fw fa-dollar-sign",
}
if budget ~= nil then
  actions["raise-budget"]["params"] = { { ["name"] = "maxCostUSD", ["default"] = budget.maxCostUSD } }
end
return actions
