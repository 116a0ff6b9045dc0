/** Find and replace in a large body. Patterns of the configuration are numbers that every thread of the process understands. */
import { replaceInBytes } from '../body/replace.ts'
import type { ReplaceAnswer, ReplaceTask } from './messages.ts'

export default function replace(task: ReplaceTask): ReplaceAnswer {
  return replaceInBytes(task.bytes, task.steps)
}
