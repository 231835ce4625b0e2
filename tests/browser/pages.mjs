// What a person does at the pages, done by chromium. Started by main.rs:
//
//   node pages.mjs SCENARIO ADDRESS [ARGUMENT…]
//
// `ready` on the standard output says that the page is open and waits for something to happen. Everywhere:
// no error on the console, no request to another host, nothing wider than the screen.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const require = createRequire(join(process.env.NODE_PACKAGES, 'pages.mjs'))
const { chromium } = require('playwright-core')

const [scenario, address, ...words] = process.argv.slice(2)
const PATIENCE = 60_000
const QUIET = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

const wrong = []
const profile = await mkdtemp(join(tmpdir(), 'windlass-browser-'))
let context

async function open({ javaScriptEnabled = true, width = 1100, height = 800, colorScheme = 'light' } = {}) {
  context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM,
    chromiumSandbox: false,
    headless: true,
    args: QUIET,
    viewport: { width, height },
    colorScheme,
    javaScriptEnabled,
  })
  context.setDefaultTimeout(PATIENCE)
  const page = context.pages()[0] ?? (await context.newPage())
  page.on('console', (message) => {
    if (message.type() === 'error') wrong.push(`console: ${message.text()}`)
  })
  page.on('pageerror', (error) => wrong.push(`error: ${error.message}`))
  page.on('request', (request) => {
    const url = new URL(request.url())
    if (url.protocol !== 'data:' && url.origin !== address) wrong.push(`request to ${url}`)
  })
  return page
}

// A page that nobody tells what happens: it shows what was when it was opened.
async function untold() {
  const page = await context.newPage()
  await page.addInitScript(() => {
    window.EventSource = class extends EventTarget {
      close() {}
    }
  })
  return page
}

async function go(page, path) {
  const answer = await page.goto(address + path)
  assert.equal(answer.status(), 200, path)
}

const text = (page, selector) => page.locator(selector).first().innerText()

// Goes on by the tabulator until what has the focus is found by the selector.
async function tabTo(page, selector) {
  for (let times = 0; times < 300; times++) {
    await page.keyboard.press('Tab')
    if (await page.locator(selector).first().evaluate((wanted) => wanted === document.activeElement)) return
  }
  assert.fail(`the tabulator never comes to ${selector}`)
}

const scenarios = {
  // Promotes by a click, and sees the page go on by itself.
  async promote(run, environment) {
    const page = await open()
    await go(page, `/runs/${run}`)
    const gate = page.locator(`#gate-${environment}`)
    await gate.getByLabel('Your name').first().fill('Ada')
    await gate.getByRole('button', { name: /Promote/ }).click()
    await page.getByText('Your promotion is recorded.').waitFor()
    // What is open and where the focus is stays so while the page goes on.
    const first = page.locator('.stages > li').first()
    await first.locator('summary').first().click()
    await page.locator('#state .badge.succeeded').waitFor()
    assert.equal(await first.locator('details').first().getAttribute('open'), '')
    const focused = await page.evaluate(() => document.activeElement.closest('li')?.id)
    assert.equal(focused, await first.getAttribute('id'))
    await page.locator(`#decided-${environment}`).getByText('Ada').waitFor()
  },

  // The same without JavaScript and without a mouse; the name is remembered from before.
  async keyboard(run, environment) {
    const page = await open({ javaScriptEnabled: false })
    await go(page, `/runs/${run}`)
    await tabTo(page, '.skip')
    await tabTo(page, `#gate-${environment} form[action$="/promote"] input[name="name"]`)
    await page.keyboard.type('Grace')
    await tabTo(page, `#gate-${environment} form[action$="/promote"] button`)
    await page.keyboard.press('Enter')
    await page.getByText('Your promotion is recorded.').waitFor()
    assert.match(page.url(), new RegExp(`/runs/${run}\\?said=promoted$`))
    await go(page, `/runs/${run}`)
    const remembered = page.getByLabel('Your name').first()
    if (await remembered.count()) assert.equal(await remembered.inputValue(), 'Grace')
  },

  // A refused form says why, and is still there.
  async refused(run) {
    const page = await open()
    await go(page, `/runs/${run}`)
    const form = page.locator('form[action$="/replay"]')
    await form.getByLabel('Your name').fill('Ada')
    await form.locator('textarea').fill('params.none=1')
    await form.getByRole('button').click()
    await page.getByRole('alert').waitFor()
    assert.equal(await page.locator('form[action$="/replay"] textarea').inputValue(), 'params.none=1')
    wrong.length = 0 // the browser calls the status of a refusal an error
  },

  // Replays with another param, by a click.
  async replay(run, edit, script) {
    const page = await open({ javaScriptEnabled: script !== 'without' })
    await go(page, `/runs/${run}`)
    const form = page.locator('form[action$="/replay"]')
    await form.getByLabel('Your name').fill('Ada')
    if (edit) await form.locator('textarea').fill(edit)
    await form.getByRole('button').click()
    await page.getByText('being replayed').waitFor()
  },

  // Follows a log live to its end.
  async follow(run, stage, last) {
    const page = await open()
    await go(page, `/runs/${run}`)
    await page.locator(`#stage-${stage} .steps a`).first().click()
    await page.getByText('being written now').waitFor()
    await page.locator('#log .f1').getByText('red').waitFor()
    assert.equal(await page.locator('#log b').count(), 0, 'output is text')
    say('ready')
    await page.locator('#log').getByText(last).waitFor()
    await page.locator('#live-state', { hasText: /^complete$/ }).waitFor()
    // It stayed at the end, though nobody scrolled.
    await page.waitForFunction(() => {
      const root = document.documentElement
      return root.scrollHeight - root.scrollTop - root.clientHeight < 200
    })
    const blocks = await page.locator('#log > div').count()
    assert.ok(blocks > 1 && blocks <= 60, `${blocks} blocks`)
  },

  // The same log without JavaScript: what is there so far.
  async read(run, stage, wanted) {
    const page = await open({ javaScriptEnabled: false })
    await go(page, `/runs/${run}/logs/${stage}`)
    assert.ok((await text(page, '#log')).includes(wanted))
  },

  // Locks a fleet and its environment, and unlocks both.
  async lock(environment, service) {
    const page = await open()
    await go(page, `/fleets/${environment}/${service}`)
    const fill = async (form, what) => {
      await form.getByLabel('Your name').fill('Ada')
      if (what) {
        await form.getByLabel('What').selectOption(what)
        await form.getByLabel('Reason').fill('we look at it')
      }
      await form.getByRole('button').click()
    }
    // What can be chosen is brought up to date, and the first of it stays the default.
    const choice = page.locator('#lock').getByLabel('What')
    await choice.evaluate((select) => select.options[1].remove())
    await choice.locator('option').nth(1).waitFor({ state: 'attached' })
    assert.equal(await choice.inputValue(), 'fleet')
    for (const what of ['fleet', 'environment']) {
      await fill(page.locator('#lock'), what)
      await page.getByText('It is locked').waitFor()
    }
    await page.getByText(`All of ${environment} locked by Ada`).waitFor()
    await go(page, '/')
    await page.locator(`#fleet-${service}-${environment} .why`, { hasText: /^Locked by Ada/ }).waitFor()
    await go(page, `/fleets/${environment}/${service}`)
    for (const what of ['fleet', 'environment']) {
      await fill(page.locator(`#unlock-${what}`))
      await page.getByText('It is unlocked.').waitFor()
    }
    assert.equal(await page.getByText('Locked by').count(), 0)
  },

  // Rolls a fleet back, and then clicks at pages that show what was before: both are refused.
  async rollback(environment, service, run, back) {
    const page = await open()
    const [oldFleet, oldGate] = [await untold(), await untold()]
    await go(oldFleet, `/fleets/${environment}/${service}`)
    await go(oldGate, `/runs/${run}`)
    const rollBack = async (page) => {
      const form = page.locator('form[action$="/rollback"]')
      await form.getByLabel('Your name').fill('Ada')
      await form.getByLabel('Reason').fill('it smells')
      await form.getByRole('button').click()
    }
    await go(page, `/fleets/${environment}/${service}`)
    await rollBack(page)
    await page.getByText('This run takes the fleet back.').waitFor()
    assert.equal(new URL(page.url()).pathname, `/runs/${back}`)
    await page.locator('#state .badge.succeeded').waitFor()

    await rollBack(oldFleet)
    await oldFleet.getByRole('alert').getByText('does not run any more what the page showed').waitFor()
    assert.equal(await oldFleet.locator('form[action$="/rollback"]').count(), 0, 'there is nothing to go back to')
    const gate = oldGate.locator(`#gate-${environment}`)
    await gate.getByLabel('Your name').first().fill('Ada')
    await gate.getByRole('button', { name: /Promote/ }).click()
    await oldGate.getByRole('alert').waitFor()
    assert.match(await text(oldGate, '[role=alert]'), /changed/)
    // The page below the refusal shows what is the case now.
    assert.equal(await gate.count(), 1)
    wrong.length = 0 // the browser calls the status of a refusal an error
  },

  // Says no at a gate.
  async reject(run, environment) {
    const page = await open()
    await go(page, `/runs/${run}`)
    const form = page.locator(`#gate-${environment} form[action$="/reject"]`)
    await form.getByLabel('Your name').fill('Ada')
    await form.getByLabel('Reason').fill('too late')
    await form.getByRole('button').click()
    await page.getByText('Your rejection is recorded.').waitFor()
    await page.locator(`#decided-${environment}`).getByText('too late').waitFor()
  },

  // Starts a run of a pipeline; what is no param is refused, and stays in the form.
  async trigger(pipeline, param, run) {
    const page = await open()
    await go(page, '/')
    await page.getByRole('navigation').getByText('Pipelines').click()
    await page.getByText('No run can start from it').waitFor()
    const card = page.locator(`#pipeline-${pipeline}`)
    await card.getByText('a push to main').waitFor()
    await card.getByText('Start a run').click()
    await card.getByLabel('Your name').fill('Ada')
    await card.getByLabel(/Params/).fill('nonsense')
    await card.getByRole('button').click()
    await page.getByRole('alert').getByText('nonsense').waitFor()
    wrong.length = 0 // as above
    assert.equal(await card.getByLabel(/Params/).inputValue(), 'nonsense')
    await card.getByLabel(/Params/).fill(param)
    await card.getByLabel(/Branch/).fill('main')
    await card.getByRole('button').click()
    await page.getByText('This run is started.').waitFor()
    assert.equal(new URL(page.url()).pathname, `/runs/${run}`)
  },

  // Has a delivery handled again: its run is shown again, and there is no second one.
  async again(id, run) {
    const page = await open()
    await go(page, '/')
    await page.getByRole('navigation').getByText('Deliveries').click()
    const row = page.locator(`#delivery-github-${id}`)
    await row.getByText('handled').waitFor()
    await row.getByRole('button').click()
    await page.getByText('It was handled again').waitFor()
    await row.getByText('handled').waitFor()
    assert.equal(await page.locator('.rows > li').count(), 1)
    await row.getByRole('link', { name: run }).click()
    await page.getByRole('heading', { name: run }).waitFor()
  },

  // Nothing is wider than a phone, in light and dark, and everything has a name for a screen reader.
  async narrow(...paths) {
    for (const colorScheme of ['light', 'dark']) {
      const page = await open({ width: 320, height: 640, colorScheme })
      for (const path of paths) {
        await go(page, path)
        await page.locator('details').evaluateAll((all) => all.forEach((element) => (element.open = true)))
        const width = await page.evaluate(() => document.documentElement.scrollWidth)
        assert.ok(width <= 320, `${path} is ${width} pixels wide`)
        assert.equal(await page.locator('h1').count(), 1, path)
        const nameless = await page.evaluate(() =>
          [...document.querySelectorAll('input:not([type=hidden]), select, textarea, button, a')]
            .filter((element) => !(element.labels?.length || element.innerText.trim() || element.ariaLabel))
            .map((element) => element.outerHTML),
        )
        assert.deepEqual(nameless, [], path)
      }
      await context.close()
    }
  },

  // For people: pictures of pages.
  async pictures(directory, ...paths) {
    for (const colorScheme of ['light', 'dark']) {
      for (const [screen, width] of [['desktop', 1200], ['phone', 390]]) {
        const page = await open({ width, height: 800, colorScheme })
        for (const path of paths) {
          await go(page, path)
          const name = path.replaceAll(/[^a-z0-9]+/g, '-') || 'front'
          await page.screenshot({ path: join(directory, `${name}-${screen}-${colorScheme}.png`), fullPage: true })
        }
        await context.close()
      }
    }
  },
}

function say(word) {
  process.stdout.write(`${word}\n`)
}

try {
  await scenarios[scenario](...words)
  assert.deepEqual(wrong, [])
  say('done')
} finally {
  await context?.close()
  await rm(profile, { recursive: true, force: true })
}
process.exit(0)
