-- Health of a finetune.dev FineTuneJob, from its conditions. A job that nobody has looked at is never Healthy.

local function said(status, condition)
  local message = condition.reason or ""
  if condition.message ~= nil and condition.message ~= "" then
    message = message .. ": " .. condition.message
  end
  return { status = status, message = message }
end

local status = obj.status or {}
if status.conditions == nil then
  return { status = "Progressing", message = "The operator has not looked at the job yet" }
end
if obj.metadata.generation ~= nil and (status.observedGeneration or 0) < obj.metadata.generation then
  return { status = "Progressing", message = "The operator has not looked at the newest change yet" }
end

local is = {}
for _, condition in ipairs(status.conditions) do
  is[condition.type] = condition
end
local function holds(type)
  return is[type] ~= nil and is[type].status == "True"
end

if holds("Succeeded") then
  -- A model that has failed its gate is published for inspection, and must not go on in a pipeline.
  if is["Promoted"] ~= nil and is["Promoted"].status == "False" then
    return said("Degraded", is["Promoted"])
  end
  return said("Healthy", is["Succeeded"])
end
if holds("Stalled") then
  return said("Degraded", is["Stalled"])
end
if holds("Suspended") then
  return said("Suspended", is["Suspended"])
end
if is["Reconciling"] ~= nil and is["Reconciling"].reason == "PlanOnly" then
  return said("Suspended", is["Reconciling"])
end
if is["Reconciling"] ~= nil then
  local health = said("Progressing", is["Reconciling"])
  if status.phase ~= nil then
    health.message = status.phase .. "; " .. health.message
  end
  return health
end
return { status = "Progressing", message = "The job has no condition Reconciling" }
